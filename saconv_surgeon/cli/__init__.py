"""The command line: parse, one call of the library, show the report, set the exit code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saconv_surgeon.cli.app import cli

__all__ = ["cli", "main"]


def main() -> None:
    """The console script. What it needs is imported here, so that Ctrl-C while that is done ends it as at any other time."""
    try:
        from saconv_surgeon.cli.app import main as run
    except KeyboardInterrupt:
        os._exit(130)
    run()


def __getattr__(name: str) -> Any:
    if name != "cli":
        raise AttributeError(name)
    from saconv_surgeon.cli.app import cli

    return cli
