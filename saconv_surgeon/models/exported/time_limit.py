"""An end to Python code that may have none."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 1.0
"""Seconds after which code that swallowed the error gets it again."""
STEPS = 1000
"""Of Python code; an error that is sent comes at the next of them."""


class OutOfTimeError(BaseException):
    """Raised between two steps of Python code that has run for too long. No ``Exception``, since libraries swallow those."""

    seconds = 0.0


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends what is done inside after so many seconds, in whichever thread that is.

    A single call of compiled code is not interrupted; the error comes when it returns.

    Raises:
        OutOfTimeError: The time is over.
    """
    caller = ctypes.c_ulong(threading.get_ident())
    done, sent, lock = threading.Event(), threading.Event(), threading.Lock()

    def watch() -> None:
        wait = seconds
        while not done.wait(wait):
            wait = AGAIN
            with lock:
                if not done.is_set():
                    sent.set()
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(caller, ctypes.py_object(OutOfTimeError))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except OutOfTimeError as error:
        error.seconds = seconds
        raise
    finally:
        with lock:
            done.set()
        if sent.is_set():
            _receive()
        watcher.join()


def _receive() -> None:
    """Lets an error that was sent and has not come arrive, and drops it.

    Taking it back, as ``PyThreadState_SetAsyncExc`` offers, leaves Python 3.11 with a request that it never fulfils: it is slower
    from then on, and hangs under a profiler, a debugger or coverage.
    """
    try:
        for _ in range(STEPS):
            pass
    except OutOfTimeError:
        pass
