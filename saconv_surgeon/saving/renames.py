"""Renames that only some systems have: two places exchanged at once, and one that must be free. Imports no torch."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

RELATIVE_TO_WORKING_FOLDER = -100
NOREPLACE, EXCHANGE = 1, 2
CANNOT = frozenset((errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV, errno.EBUSY))
"""How a kernel or a file system says that it does not do this here."""


def exchange(one: Path, other: Path) -> bool:
    """Gives each of two places the name of the other, at once; False, and nothing is done, if that cannot be had here.

    Raises:
        OSError: It failed for another reason.
    """
    return _renamed(one, other, EXCHANGE)


def rename_to_free(source: Path, target: Path) -> None:
    """Renames a file or a folder to a name that nothing has. On systems without such a rename, a moment passes in between.

    Raises:
        FileExistsError: Something has it.
        OSError: It failed for another reason.
    """
    if _renamed(source, target, NOREPLACE):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _renamed(source: Path, target: Path, flag: int) -> bool:
    function = _renameat2()
    if function is None:
        return False
    here = RELATIVE_TO_WORKING_FOLDER
    if function(here, os.fsencode(source), here, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(target))


@cache
def _renameat2() -> Any:
    """Linux' own; None elsewhere, and with a C library that does not have it."""
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function
