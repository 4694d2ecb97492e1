"""Opening a file that may be anything: one that never ends, that waits for a writer, that is larger than memory.

The one door for files whose content this package parses itself; libraries that open a path on their own get it checked first.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

MIB = 1 << 20
LARGEST_JSON = 64 * MIB
"""Bytes; a plan or a report of a model of thousands of layers has some MiB."""
MOST_JSON_PARTS = 4_000_000
"""Values in a JSON file: each takes a hundred bytes of memory, and two in the file."""
LARGE, SPARSEST = 1 << 30, 50
"""A file from this size on of which less than this part is on the disk holds no weights: it is mostly a hole."""
KINDS = (
    *((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket")),
    *((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device")),
)


class NotReadableError(ValueError):
    """A path is not a file that can be read to its end. The message says what it is, and needs the path before it."""


def check_regular(path: Path) -> None:
    """Checks, without opening it, that ``path`` is a file with content, links followed.

    Raises:
        NotReadableError: It is not.
        OSError: It cannot be looked at.
    """
    _check(path.stat())


def open_regular(path: Path) -> BinaryIO:
    """``path``, open for reading; what it is is looked at before and after, and nothing is waited for.

    Raises:
        NotReadableError: It is not a file with content.
        OSError: It cannot be opened.
    """
    _check(path.stat())
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
    opened = os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb")
    try:
        _check(os.fstat(opened.fileno()))
    except BaseException:
        opened.close()
        raise
    return opened


def read_bytes(path: Path, most: int) -> bytes:
    """The content of ``path``, if it is a file of ``most`` bytes or fewer, whatever size it says it has.

    Raises:
        NotReadableError: It is not, or it is larger.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise NotReadableError(
            f"it has more than {most // MIB} MiB" if most >= MIB else f"it has more than {most} bytes"
        )
    return content


def read_json(path: Path, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The content of a JSON file in UTF-8.

    Raises:
        NotReadableError: It is no regular file, too large, or nested too deeply.
        ValueError: It is no JSON.
        OSError: It cannot be read.
    """
    return parse_json(read_bytes(path, LARGEST_JSON), pairs_hook)


def parse_json(content: bytes, pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """As :func:`read_json`, of bytes."""
    parts = sum(content.count(mark) for mark in (b",", b"[", b"{"))
    if parts > MOST_JSON_PARTS:
        raise NotReadableError(f"it has {parts} values, more than any that is written here")
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=pairs_hook)
    except RecursionError:
        raise NotReadableError("it is nested too deeply") from None


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for question, name in KINDS if question(found.st_mode)), "no regular file")
        raise NotReadableError(f"it is {kind}; a regular file is needed")
    if found.st_size == 0:
        raise NotReadableError("it is empty")
    on_disk = getattr(found, "st_blocks", 0) * 512
    if found.st_size >= LARGE and 0 < on_disk * SPARSEST < found.st_size:
        raise NotReadableError(f"it says that it has {found.st_size} bytes, and only {on_disk} are on the disk")
