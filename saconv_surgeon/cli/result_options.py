"""Options about the result: reports, gates, JSON, and how much is said. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TextIO

import click

from saconv_surgeon.cli.takes import option
from saconv_surgeon.comparing.gates import Gate, parse
from saconv_surgeon.report.formats import FORMATS
from saconv_surgeon.saving.destination import descriptor_of

STDOUT = "saconv_surgeon.stdout"
"""The entry of a context that keeps the real stdout."""


def _json_to(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """With ``-``, stdout is for the record alone: whatever else prints, the user's own code above all, goes to stderr."""
    if value not in (None, "-") and descriptor_of(Path(value)) == 1:
        value = "-"  # /dev/stdout
    if value == "-":
        context.meta[STDOUT] = context.with_resource(_stdout_for_the_record())
    return value


@contextmanager
def _stdout_for_the_record() -> Iterator[TextIO]:
    """The real stdout. Inside, ``sys.stdout`` is stderr, and so is the descriptor that child processes and C code print to."""
    stdout = sys.stdout
    descriptor = _descriptor(stdout)
    with redirect_stdout(sys.stderr), ExitStack() as stack:
        if descriptor == 1 and _descriptor(sys.stderr) == 2:
            stdout.flush()
            kept = os.dup(1)
            stdout = stack.enter_context(
                open(kept, "w", encoding=stdout.encoding, errors=stdout.errors)  # noqa: PTH123 - a descriptor
            )
            back = os.dup(1)
            stack.callback(os.close, back)
            stack.callback(os.dup2, back, 1)
            os.dup2(2, 1)
        yield stdout


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _gates(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[Gate, ...]:
    return tuple(map(parse, value))


def _kinds_of_report() -> str:
    *most, last = (f"{suffix} ({f.remark})" if f.remark else suffix for suffix, f in FORMATS.items())
    return f"{', '.join(most)} or {last}"


_json: Any = partial(
    option,
    "--json",
    callback=_json_to,
    metavar="FILE|-",
    help="Write the record as JSON to FILE; with - to stdout, the report then to stderr.",
)


@dataclass(frozen=True)
class JsonOption:
    """Where the record goes."""

    SECTION: ClassVar = "Report"

    json_to: str | None = _json()


@dataclass(frozen=True)
class ResultOptions:
    """Where report and record go, and what the record must satisfy."""

    SECTION: ClassVar = "Report"

    reports: tuple[Path, ...] = option(
        "--report",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"Write the report to a file too: {_kinds_of_report()}; repeatable.",
    )
    gates: tuple[Gate, ...] = option(
        "--fail-if",
        multiple=True,
        callback=_gates,
        metavar="GATE",
        help='Exit code 1 if this is so: "latency>1.2x", "after.macs>6e9", "max_rel>1e-5"; repeatable.',
    )
    json_to: str | None = _json()


@dataclass(frozen=True)
class TalkOptions:
    """How much to say."""

    SECTION: ClassVar = "Report"

    quiet: bool = option("-q", "--quiet", is_flag=True, help="No report, only errors.")
    verbose: bool = option("-v", "--verbose", is_flag=True, help="Every row of every table.")
