"""The command line: parse, one call of the library, show the report, set the exit code."""

from saconv_surgeon.cli.app import cli, main

__all__ = ["cli", "main"]
