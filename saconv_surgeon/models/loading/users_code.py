"""Running code of the user's: it may end the process, read its arguments and change its settings, and none of that is ours.

Imports no torch.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import SurgeonError, UserCodeError, exit_of
from saconv_surgeon.models.loading.missing_packages import advice

READERS_OF_ARGUMENTS = frozenset("absl argparse click docopt fire hydra jsonargparse simple_parsing tyro typer".split())
"""Packages that read ``sys.argv``, and end the process if they do not like it."""
OWN = __name__.partition(".")[0]
_barred: list[Path] = []
"""Folders that are not put before all others, whatever asks for it."""
_left_in: dict[str, str] = {}
"""By source, the working folder that its code changed to: a factory may open files relative to what its module chose."""


@contextmanager
def users_code(doing: str, source: str = "", folder: Path | None = None) -> Iterator[None]:
    """Runs code of the user's inside; ``doing`` says what, as in ``importing nets.py``.

    Inside, ``sys.argv`` is ``source`` alone, and ``folder`` is the first place to import from. Afterwards the process is as
    :func:`process_kept` says.

    Raises:
        UserCodeError: It raised, or ended the process with ``sys.exit`` or the like. Interruptions and errors of this package
            pass as they are.
    """
    try:
        with process_kept(source, folder):
            yield
    except (SurgeonError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as error:
        raise UserCodeError(f"{doing} raised {type(error).__name__}: {error}{advice(error)}") from error
    except BaseException as error:
        raise UserCodeError(f"{doing} {how_it_ended(error)}") from error


@contextmanager
def process_kept(source: str = "", folder: Path | None = None) -> Iterator[None]:
    """Afterwards arguments, working folder, standard streams and warning filters are as they were.

    What was added to ``sys.path`` stays, behind everything else, for imports that the code makes later: nothing that lies beside
    the user's code takes the place of a library. Filters that only silence warnings stay as well.
    """
    argv, streams, here, path = sys.argv, (sys.stdin, sys.stdout, sys.stderr), Path.cwd(), list(sys.path)
    sys.argv = [source or argv[0]] if argv else []
    if source in _left_in:
        with suppress(OSError):  # it is gone
            os.chdir(_left_in[source])
    if folder is not None and folder not in _barred:
        sys.path.insert(0, str(folder))
    silenced: list[Any] = []
    try:
        with warnings.catch_warnings():
            before = list(warnings.filters)
            try:
                yield
            finally:
                silenced = [each for each in warnings.filters if each not in before and each[0] != "error"]
    finally:
        sys.argv = argv
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.path[:] = [*path, *(each for each in dict.fromkeys(sys.path) if each not in path)]
        for each in reversed(silenced):
            _silence(*each)
        _go_back(here, source)


@contextmanager
def barred(folder: Path) -> Iterator[None]:
    """Inside, :func:`users_code` and :func:`process_kept` do not make the modules in ``folder`` importable."""
    _barred.append(folder)
    try:
        yield
    finally:
        _barred.remove(folder)


def append_to_path(folder: Path) -> None:
    """Makes the modules in ``folder`` importable, after all others."""
    if str(folder) not in sys.path and not (folder == Path.cwd() and "" in sys.path):
        sys.path.append(str(folder))


def how_it_ended(error: BaseException) -> str:
    """What code did that raised something that is no ``Exception``."""
    if not isinstance(error, SystemExit):
        return f"raised {type(error).__name__}: {error}"
    ended = f"{exit_of(error)}; it has to return instead"
    reader = next((name for name in _packages(error) if name in READERS_OF_ARGUMENTS), None)
    if reader is None:
        return ended
    return (
        f"{ended}. It reads the command line with {reader}, and none of these arguments are meant for it: read them under "
        'if __name__ == "__main__", or give each a default'
    )


def _packages(error: BaseException) -> Iterator[str]:
    """The packages of the frames that this package called last, from there down: it reads a command line itself, further up."""
    found: list[str] = []
    frames = error.__traceback__
    while frames is not None:
        name = str(frames.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        found = [] if name == OWN else [*found, name]
        frames = frames.tb_next
    return iter(found)


def _go_back(here: Path, source: str) -> None:
    try:
        now = Path.cwd()
    except OSError:  # it has been removed
        now = None
    if now == here:
        return
    if now is not None and source:
        _left_in[source] = str(now)
    os.chdir(here)


def _silence(action: Any, message: Any, category: type[Warning], module: Any, line: int) -> None:
    warnings.filterwarnings(action, _pattern(message), category, _pattern(module), line)


def _pattern(regex: Any) -> str:
    return "" if regex is None else getattr(regex, "pattern", str(regex))
