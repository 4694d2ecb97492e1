"""How the command line talks: reports to stdout, talk and errors to stderr, records to files."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment

from saconv_surgeon.cli.encoding import is_unicode
from saconv_surgeon.cli.result_options import STDOUT
from saconv_surgeon.errors import ModelError, UsageError, visible, visible_lines
from saconv_surgeon.models.loading.users_code import process_kept
from saconv_surgeon.records import json_escaped
from saconv_surgeon.saving.atomic import write_text

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


class _Console(Console):
    """Shows text that cannot act, and leaves it to the caller what to do about a pipe that nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See ``Console``: whatever text it is, only Rich's own codes act on the terminal."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else visible_lines(text), style, control)


def _console(*, stderr: bool, quiet: bool) -> Console:
    console = _Console(stderr=stderr, quiet=quiet)
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console.width = OFF_TERMINAL  # Rich's 80 would fold every name in a log file
    console.width = max(console.width, NARROWEST)
    return console


def show(console: Console, renderable: RenderableType) -> None:
    """Prints a report.

    Raises:
        UsageError: It cannot be written.
    """
    with _written(console.file, "the report"):
        console.print(renderable, highlight=False)


def say(text: str, quiet: bool) -> None:
    """Prints a sentence on stderr, as it is; if nobody can read that, nothing."""
    with suppress(OSError):
        talk_console(quiet).print(text, markup=False, highlight=False, soft_wrap=True)


def write_json(record: Any, json_to: str) -> None:
    """Writes a record to a file, which appears whole, or with ``-`` to the real stdout.

    Raises:
        UsageError: It cannot be written.
    """
    if json_to != "-":
        write_whole(Path(json_to), _json(record), "--json")
        return
    stdout = click.get_current_context().meta[STDOUT]
    with _written(stdout, "the record"):
        stdout.write(_json(record, ascii_only=not is_unicode(getattr(stdout, "encoding", None))))


def _json(record: Any, *, ascii_only: bool = False) -> str:
    text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=ascii_only) + "\n"
    return json_escaped(text)


@contextmanager
def _written(stream: Any, what: str) -> Iterator[None]:
    """Ends quietly if what is written to ``stream`` inside goes to a pipe whose reader has left, as ``head`` does.

    Raises:
        UsageError: It cannot be written for another reason.
    """
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        _give_up(stream)
    except OSError as error:
        _give_up(stream)
        raise UsageError(f"{what} cannot be written ({error}); whatever goes to files was written") from error


def _give_up(stream: Any) -> None:
    """Lets what is still buffered, and what comes, go nowhere: Python would try again when it exits."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def write_whole(path: Path, content: str, option: str) -> None:
    """Writes a file, which appears whole; see :func:`~saconv_surgeon.saving.atomic.write_text`.

    Raises:
        UsageError: It cannot be written; ``option`` is the one that asked for it.
    """
    try:
        write_text(path, content)
    except ModelError as error:
        raise UsageError(f"{option} {error}") from error


def reading(models: str, quiet: bool) -> None:
    """Says on a terminal at once what is being read: importing torch and the model's libraries takes seconds."""
    if talk_console().is_terminal:
        say(f"reading {models} …", quiet)


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Shows a progress bar on a terminal, and nothing elsewhere, while a model is run, whose code may change the process."""
    console = talk_console(quiet)
    spinner = SpinnerColumn("dots" if is_unicode(console.encoding) else "line")
    columns = (spinner, TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    off = quiet or not console.is_terminal
    with process_kept(), Progress(*columns, console=console, transient=True, disable=off) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step, done: bar.update(task, description=visible(step), completed=done)


def show_traceback(error: BaseException) -> None:
    """Prints the frames of the user's own code; those of this package, which called it, are left out."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(PACKAGE):
        frames = frames.tb_next
    complain("".join(traceback.format_exception(type(error), error, frames)))


class OwnExit(SystemExit):
    """The exit of a command; any other ``SystemExit`` comes out of a model's code."""


def fail(message: str, code: int) -> NoReturn:
    """Says on stderr what went wrong and exits. Only the first line begins as a message does."""
    first, *others = message.split("\n")
    lines = (each if not each or each[0].isspace() else f"  {each}" for each in others)
    complain("\n".join((f"saconv-surgeon: {first}", *lines)) + "\n")
    raise OwnExit(code)


def complain(text: str) -> None:
    """Writes to stderr as it is encoded, text that cannot act; click would write UTF-8 to one that says ASCII."""
    with suppress(OSError, ValueError):  # it may be full, or closed
        sys.stderr.write(visible_lines(text))
        sys.stderr.flush()
