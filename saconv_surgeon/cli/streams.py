"""How the command line talks: reports to stdout, talk and errors to stderr, records to files."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from saconv_surgeon.cli.result_options import STDOUT
from saconv_surgeon.errors import UsageError

EXIT_CHECK_FAILED, EXIT_NOTHING_ELIGIBLE, EXIT_INTERRUPTED = 1, 4, 130
NARROWEST, OFF_TERMINAL = 80, 120
PACKAGE = str(Path(__file__).parents[1])
"""The folder of saconv_surgeon."""


def report_console(json_to: str | None, quiet: bool) -> Console:
    """The console for the report: stdout, or stderr if the JSON takes stdout."""
    return _console(stderr=json_to == "-", quiet=quiet)


def talk_console(quiet: bool = False) -> Console:
    """The console for talk and errors."""
    return _console(stderr=True, quiet=quiet)


def _console(*, stderr: bool, quiet: bool) -> Console:
    console = Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console.width = OFF_TERMINAL  # Rich's 80 would fold every name in a log file
    console.width = max(console.width, NARROWEST)
    return console


def show(console: Console, renderable: RenderableType) -> None:
    """Prints a report."""
    console.print(renderable, highlight=False)


def say(text: str, quiet: bool) -> None:
    """Prints a sentence on stderr, as it is."""
    talk_console(quiet).print(text, markup=False, highlight=False, soft_wrap=True)


def write_json(record: Any, json_to: str | None) -> None:
    """Writes a record to a file, which appears whole, or to the real stdout."""
    if json_to is None:
        return
    content = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if json_to == "-":
        click.echo(content, file=click.get_current_context().meta[STDOUT], nl=False)
        return
    write_whole(Path(json_to), content, "--json")


def write_whole(path: Path, content: str, option: str) -> None:
    """Writes a file under another name and then renames it.

    Raises:
        UsageError: It cannot be written; ``option`` is the one that asked for it.
    """
    temporary = path.parent / f".{path.name}.tmp"
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{option} {path} cannot be written: {error}") from error


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Shows a progress bar on a terminal, and nothing elsewhere."""
    console = talk_console(quiet)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, done: bar.update(task, description=step, completed=done)


def show_traceback(error: BaseException) -> None:
    """Prints the frames of the user's own code; those of this package, which called it, are left out."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(PACKAGE):
        frames = frames.tb_next
    click.echo("".join(traceback.format_exception(type(error), error, frames)), err=True, nl=False)


def fail(message: str, code: int) -> NoReturn:
    """Says on stderr what went wrong and exits."""
    click.echo(f"saconv-surgeon: {message}", err=True)
    sys.exit(code)
