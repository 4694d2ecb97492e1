"""Standard output closed to compiled code: some builds of HiGHS print a line for their developers, whatever they are told."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STDOUT = 1


@contextmanager
def muted_stdout() -> Iterator[None]:
    """What compiled code writes to standard output inside is thrown away; ``print`` is for afterwards. Where there is no such
    descriptor nothing happens.
    """
    with suppress(Exception):
        sys.stdout.flush()
    _flush()
    try:
        kept = os.dup(STDOUT)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDOUT)
        yield
    finally:
        _flush()
        os.dup2(kept, STDOUT)
        os.close(kept)
        os.close(nowhere)


def _flush() -> None:
    """C keeps what it writes to a pipe in a buffer of its own."""
    with suppress(Exception):
        ctypes.CDLL(None).fflush(None)
