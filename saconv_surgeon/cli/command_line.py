"""The command that is running, as it was given: reports say what made them."""

from __future__ import annotations

import datetime
import shlex
from importlib.metadata import PackageNotFoundError, version

import click

from saconv_surgeon._version import __version__

ARGUMENTS = "saconv_surgeon.arguments"
"""The entry of click's ``meta`` that holds them."""


def made_by() -> str:
    """The command, the day, and the versions; empty outside of a command."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or ARGUMENTS not in ctx.meta:
        return ""
    command = shlex.join(["saconv-surgeon", *ctx.meta[ARGUMENTS]])
    try:
        torch = f", torch {version('torch')}"
    except PackageNotFoundError:
        torch = ""
    return f"{datetime.date.today().isoformat()}, saconv-surgeon {__version__}{torch}: {command}"
