"""Private folders in which files are made before they get their names, and what killed processes left of them.

A stage lies beside what is to be written, so that a rename is all that remains. Its name cannot be foreseen and nobody else may
enter it: nothing in it can have been planted. The process that uses it holds a lock on it; a stage whose lock is free belongs to
nobody any more. Imports no torch.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from saconv_surgeon.saving.interruptions import uninterrupted
from saconv_surgeon.saving.renames import rename_to_free
from saconv_surgeon.surgery.plan_file import CONVERSION_FILES, PLAN

if sys.platform != "win32":
    import fcntl

NAME = re.compile(r"\.saconv-surgeon\.[0-9a-f]{32}\.tmp")
PATIENCE = 10.0
"""Seconds to wait for another process that is renaming."""
_open: set[Path] = set()


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new empty folder in ``folder``, which is gone afterwards with what is left in it.

    Raises:
        OSError: It cannot be made.
    """
    clear_leftovers(folder)
    stage = folder / f".saconv-surgeon.{secrets.token_hex(16)}.tmp"
    with _locked(folder, shared=True):  # whoever clears leftovers waits until it has its own lock
        stage.mkdir(mode=0o700)
        _open.add(stage)
        lock = _lock(stage, wait=0.0)
    try:
        yield stage
    finally:
        with uninterrupted():
            _remove(stage)
            if lock is not None:
                os.close(lock)


def remove_open_stages() -> None:
    """Removes the stages that this process has not finished with, for one that is about to end."""
    for stage in tuple(_open):
        _remove(stage)


def clear_leftovers(folder: Path) -> None:
    """Removes the stages of this user in ``folder`` that no process uses any more.

    A file in one of them that is not this package's was in a folder that had just been replaced: it goes back to there.
    """
    stages = [Path(entry.path) for entry in _entries(folder) if NAME.fullmatch(entry.name) and _is_own(entry)]
    if not stages:
        return
    with _locked(folder, shared=False, wait=0.0) as held:
        for stage in stages:
            lock = _lock(stage, wait=0.0) if held and stage not in _open else None
            if lock is None:
                continue
            with uninterrupted():
                _remove(stage)
                os.close(lock)


@contextmanager
def _locked(folder: Path, *, shared: bool, wait: float = PATIENCE) -> Iterator[bool]:
    """Holds the lock of a folder in which names change, and says whether it could be had."""
    lock = _lock(folder, shared=shared, wait=wait)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def renaming(folder: Path) -> AbstractContextManager[bool]:
    """While it is entered, no other process of this package renames in ``folder``, if the file system has locks."""
    return _locked(folder, shared=False)


def _lock(folder: Path, *, shared: bool = False, wait: float) -> int | None:
    """A descriptor that holds a lock on a folder; None if another holds it for longer than ``wait``, or there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return descriptor
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR) or time.monotonic() >= until:
                os.close(descriptor)
                return None
        time.sleep(0.01)


def _remove(stage: Path) -> None:
    _open.discard(stage)
    replaced = [Path(entry.path) for entry in _entries(stage) if _is_own(entry) and (Path(entry.path) / PLAN).exists()]
    if all(_gave_back(each, stage.parent / each.name) for each in replaced):
        shutil.rmtree(stage, ignore_errors=True)


def _gave_back(replaced: Path, folder: Path) -> bool:
    """Moves what is not this package's from a folder that was ``replaced`` to the one in its place. Whether all of it went."""
    others = [e for e in _entries(replaced) if e.name not in CONVERSION_FILES and not NAME.fullmatch(e.name)]
    with suppress(OSError):
        for entry in others:
            rename_to_free(Path(entry.path), folder / entry.name)
        return True
    return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_own(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())
    return False
