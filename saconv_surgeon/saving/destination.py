"""What a path is to a writer: links are followed, and what is no file or folder (a device, a pipe) is told apart.

Imports no torch.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
DESCRIPTOR = re.compile(r"/(?:dev|proc/self|proc/(?P<process>\d+))/fd/(?P<number>\d+)")
MOST_LINKS = 40


@dataclass(frozen=True)
class Destination:
    """A place to write to. ``real`` is its path without links.

    A ``special`` one is written into, since a file in its place would be no device or pipe any more; ``descriptor`` is the number
    of the open file that it names, if it names one.
    """

    real: Path
    special: bool = False
    descriptor: int | None = None


def destination(path: str | Path) -> Destination:
    """The place that ``path`` leads to, whether something is there or not.

    Raises:
        OSError: A link leads nowhere near, to itself, or is one that a stranger put into a shared folder.
    """
    place = Path(path)
    for _ in range(MOST_LINKS):
        number = descriptor_of(place)
        if number is not None:
            return Destination(place, special=True, descriptor=number)
        if not place.is_symlink():
            break
        _check_link(place)
        place = place.parent / place.readlink()
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    try:
        real = place.parent.resolve() / place.name if place.name not in ("", "..") else place.resolve()
    except RuntimeError as error:  # how Python before 3.13 says that links go round in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    return Destination(real, special=_is_special(real))


def descriptor_of(path: Path) -> int | None:
    """The number of the descriptor that a path such as ``/dev/stdout`` or ``/dev/fd/3`` names; None for any other path."""
    text = os.path.normpath(path)
    if text in STANDARD:
        return STANDARD[text]
    found = DESCRIPTOR.fullmatch(text)
    if found is None or found["process"] not in (None, str(os.getpid())):
        return None
    return int(found["number"])


def _is_special(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check_link(link: Path) -> None:
    """As kernels do for programs that open a link: in a folder where everyone may write, only those of the user count."""
    if not hasattr(os, "geteuid"):
        return
    folder, owner = link.parent.stat(), link.lstat().st_uid
    shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    if shared and owner not in (os.geteuid(), folder.st_uid):
        raise PermissionError(
            errno.EACCES, "it is a link that another user made in a folder where everyone may write", str(link)
        )
