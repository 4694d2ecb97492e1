"""Files and folders that appear whole or not at all: made in a private folder beside their place, and moved there at the end.

A process that is killed at any moment leaves what was there or what is new, and at most its private folder, which the next writer
of that place removes. A device or a pipe is written into. Imports no torch.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import ModelError, SurgeonError, first_line
from saconv_surgeon.records import json_escaped
from saconv_surgeon.saving.destination import Destination, destination
from saconv_surgeon.saving.interruptions import uninterrupted
from saconv_surgeon.saving.renames import rename_to_free
from saconv_surgeon.saving.replace_folder import finish_replacing, may_be_exchanged, replace_folder
from saconv_surgeon.saving.staging import clear_leftovers, renaming, staged
from saconv_surgeon.surgery.plan_file import PLAN, conversion_file

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM)
PATIENCE = 5.0
"""Seconds to wait for a reader of a pipe."""
ALMOST_FULL = 2**16
"""Bytes: with fewer than these free, an error of a library that does not say why is the disk's."""


class OvertakenError(ModelError):
    """Another process wrote to the same place in the meantime; what it wrote is there."""


@contextmanager
def writing(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """Gives a path, in a private folder, where nothing is yet; what the block makes there takes the place of ``target``.

    With ``folder``, an empty folder is there, to be filled. If the block or anything after it fails, what was at ``target``
    stays. Links stay links; what replaces a file has its permissions, what is new those that the user's umask leaves.

    Raises:
        OvertakenError: Another process wrote to ``target`` since the block was entered.
        ModelError: It cannot be written; nothing was.
    """
    with _explained(target):
        place = destination(target)
        with ExitStack() as stack:
            if place.special:
                part = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="saconv-surgeon-"))) / target.name
                yield part
                _write_into(place, part)
                return
            real = place.real
            parent = real.parent
            if folder and real.is_dir():
                with uninterrupted(), renaming(parent):
                    finish_replacing(real)
                for each in (parent, real):  # whichever of the two a killed process has used
                    clear_leftovers(each)
                parent = parent if may_be_exchanged(real) else real
            stack.enter_context(_with_parents(parent))
            if not folder and real.exists() and not os.access(real, os.W_OK):
                raise PermissionError(errno.EACCES, f"{real.name} is write-protected", str(real))
            before = _identity(real, folder)
            stage = stack.enter_context(staged(parent))
            part = stage / real.name
            if folder:
                part.mkdir()
            yield part
            _settle(part, real, stage)
            with uninterrupted(), renaming(real.parent):
                if _identity(real, folder) != before:
                    raise OvertakenError(_overtaken(target))
                try:
                    _move(part, real, folder=folder)
                except FileExistsError as error:
                    raise OvertakenError(_overtaken(target)) from error
                _sync(parent)


def check_place(target: Path) -> None:
    """Checks before anything slow is done that ``target`` can be written to, as far as the system says.

    Raises:
        ModelError: It cannot.
    """
    with _explained(target):
        place = destination(target)
        if place.special:
            return
        above = next(p for p in (place.real, *place.real.parents) if p.is_dir() or (p != place.real and p.exists()))
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is not a folder", str(target))
        if os.access(above, os.W_OK | os.X_OK):
            return
        read_only = bool(os.statvfs(above).f_flag & os.ST_RDONLY) if hasattr(os, "statvfs") else False
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), str(above))


def write_text(target: Path, text: str) -> None:
    """Writes a file in UTF-8. Half characters, as in file names that are no text, become escapes, which JSON reads as what they
    were.

    Raises:
        ModelError: See :func:`writing`.
    """
    with writing(target) as part:
        write_new(part, text)


def write_new(file: Path, text: str) -> None:
    """Writes a file that is not there yet, as :func:`write_text` does, under its own name.

    Raises:
        OSError: It is there, be it as a link, or cannot be written.
    """
    with os.fdopen(os.open(file, NEW, 0o666), "w", encoding="utf-8", errors="backslashreplace") as opened:
        opened.write(text)


def write_json(file: Path, content: Any) -> None:
    """Writes plain dicts, lists, strings and numbers to a file that is not there yet."""
    write_new(file, json_escaped(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"))


def _move(part: Path, real: Path, *, folder: bool) -> None:
    if folder:
        replace_folder(part, real)
    elif os.path.lexists(real):
        part.replace(real)
    else:
        rename_to_free(part, real)


def _identity(real: Path, folder: bool) -> tuple[int, ...] | None:
    """Tells one version of what is at a place from another; None if nothing is there."""
    try:
        found = (conversion_file(real, PLAN) if folder else real).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _settle(part: Path, real: Path, stage: Path) -> None:
    """Gives what was made the permissions that it shall have, and waits until the disk has it."""
    probe = stage / ".mode"
    os.close(os.open(probe, NEW, 0o666))
    usual = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    if part.is_dir():
        for file in part.iterdir():
            _finish(file, real / file.name, usual)
        with suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(real.stat().st_mode))
        _sync(part)
    else:
        _finish(part, real, usual)
    _sync(stage)


def _finish(file: Path, replaced: Path, usual: int) -> None:
    with suppress(FileNotFoundError):
        usual = stat.S_IMODE(replaced.stat().st_mode)
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    file.chmod(usual)


def _sync(folder: Path) -> None:
    with suppress(OSError):  # some systems have no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_into(place: Destination, part: Path) -> None:
    descriptor = _opened(place.real) if place.descriptor is None else os.dup(place.descriptor)
    with part.open("rb") as source, os.fdopen(descriptor, "wb") as sink:
        shutil.copyfileobj(source, sink)


def _opened(special: Path) -> int:
    """A descriptor to write to; of a pipe, when somebody reads from it."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            descriptor = os.open(special, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO or not special.is_fifo():
                raise
            if time.monotonic() >= until:
                raise OSError(errno.ENXIO, "it is a pipe, and nobody reads from it", str(special)) from error
            time.sleep(0.02)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


@contextmanager
def _with_parents(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it; if what is inside fails, the new ones are removed again."""
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with uninterrupted():
            for path in created:
                with suppress(OSError):  # it is not empty, or was never made
                    path.rmdir()
        raise


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except SurgeonError:
        raise
    except Exception as error:  # torch and other libraries have no class of their own for what a disk says
        raise ModelError(
            f"{target} could not be written: {why_not_written(error, target)}. Nothing was saved"
        ) from error


def why_not_written(error: Exception, target: Path) -> str:
    """What went wrong and what to do, if that is known."""
    number, text = getattr(error, "errno", None), str(error)
    if number in FULL or "No space left" in text or (number is None and _almost_full(target)):
        return f"{_short(error)}: the disk is full; free some space or choose another place"
    if number == errno.EFBIG or "File too large" in text:
        return (
            f"{_short(error)}: a limit on the size of files (ulimit -f) is in the way; raise it or choose another place"
        )
    if number == errno.EROFS:
        return f"{target.parent} is on a file system that is read-only; choose another place"
    if number in FORBIDDEN:
        return f"{_short(error)}: you may not write to {target.parent}; choose another place"
    if number is not None:
        return f"{_short(error)}: is the place writable?"
    return f"{type(error).__name__}: {first_line(error)}"


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _almost_full(target: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(next(p for p in target.absolute().parents if p.is_dir())).free < ALMOST_FULL
    return False


def _overtaken(target: Path) -> str:
    return (
        f"another process wrote to {target} while this one did: what that one wrote is there, and nothing was saved from here; "
        "choose another name, or start again when the other is done"
    )
