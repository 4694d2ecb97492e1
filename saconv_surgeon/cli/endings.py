"""How a command ends that was interrupted, or met an error that nobody expected: whose it is, and what to say of it."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from saconv_surgeon.cli.streams import EXIT_INTERRUPTED, PACKAGE, fail
from saconv_surgeon.errors import first_line
from saconv_surgeon.saving.staging import remove_open_stages

AT_ONCE = os._exit
DEPENDENCIES = frozenset(
    "torch functorch numpy scipy fvcore iopath safetensors rich click jinja2 markupsafe sympy".split()
)
"""Packages that this one calls itself; an error in them is not the model's."""
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def end_interrupted() -> NoReturn:
    """Ends after Ctrl-C; another one ends at once, with the same code."""
    with suppress(ValueError):  # only the main thread is asked
        signal.signal(signal.SIGINT, lambda *_: AT_ONCE(EXIT_INTERRUPTED))
    remove_open_stages()
    fail("interrupted; nothing half-written was left", EXIT_INTERRUPTED)


@contextmanager
def tidy_when_told_to_end() -> Iterator[None]:
    """Inside, a process that is told to end removes what it had begun to write, and then ends as it was told."""

    def end(number: int, frame: FrameType | None) -> None:
        remove_open_stages()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if before[number] is signal.SIG_DFL:  # nohup, for one, has it ignored
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is end:
                signal.signal(number, handler)


def system_said(error: BaseException) -> str:
    """What to say of an error that is neither of the user's nor of this package's making."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({first_line(error)}); use a smaller model or input, or a machine with more"
    if isinstance(error, RecursionError):
        return f"something is nested too deeply to be followed ({first_line(error)})"
    if isinstance(error, UnicodeError):
        return f"a text is not what its encoding allows ({type(error).__name__}: {first_line(error)})"
    return f"the system refused ({first_line(error)})"


def loaded_files() -> frozenset[str]:
    """The source files of the modules that are there now."""
    return frozenset(filter(None, (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))))


def is_of_the_model(error: BaseException, known: frozenset[str]) -> bool:
    """Whether an error comes out of code that this package called for the model's sake: of the user's or of its library.

    ``known`` are the files that were loaded before the command began: none of them is the model's.
    """
    files: list[str] = []
    frames = error.__traceback__
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        files = [] if file.startswith(PACKAGE) else [*files, file]
        frames = frames.tb_next
    return any(file not in known and not file.startswith("<") and not _is_a_dependency(Path(file)) for file in files)


def _is_a_dependency(file: Path) -> bool:
    folders = {name: Path(path) for name, path in sysconfig.get_paths().items()}
    for name in ("purelib", "platlib"):
        if file.is_relative_to(folders[name]):
            return file.relative_to(folders[name]).parts[0].removesuffix(".py") in DEPENDENCIES
    return file.is_relative_to(folders["stdlib"]) or file.is_relative_to(folders["platstdlib"])
