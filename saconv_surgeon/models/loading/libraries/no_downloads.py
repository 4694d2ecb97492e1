"""Making a model must not fetch anything that the user did not ask for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from saconv_surgeon.errors import ModelError

ASKING = ("connect", "connect_ex")
LOCAL = (socket.AF_UNIX,) if hasattr(socket, "AF_UNIX") else ()


@contextmanager
def no_downloads(spec: str) -> Iterator[None]:
    """Inside, nothing is asked of another machine, by whichever way a library does it.

    Raises:
        ModelError: It tried; ``spec`` names the model. Also if the library took the failure for something else.
    """
    tried: list[str] = []
    error = ModelError(
        f"{spec} would download something, though --pretrained was not given: give --pretrained for the library's weights, or "
        "leave out the argument that asks for them"
    )

    def refuse(*args: Any, **kwargs: Any) -> Any:
        tried.append(str(args[:1]))
        raise error

    def connect(original: Any) -> Any:
        def refused(self: socket.socket, *args: Any) -> Any:
            return original(self, *args) if self.family in LOCAL else refuse(*args)

        return refused

    kept = {name: getattr(socket.socket, name) for name in ASKING}
    looked_up = socket.getaddrinfo
    for name, original in kept.items():
        setattr(socket.socket, name, connect(original))
    socket.getaddrinfo = refuse
    try:
        yield
    except Exception as failure:
        if tried and failure is not error:
            raise error from failure
        raise
    finally:
        socket.getaddrinfo = looked_up
        for name in ASKING:
            if name in vars(socket.socket):
                delattr(socket.socket, name)
        for name, original in kept.items():
            if getattr(socket.socket, name) is not original:
                setattr(socket.socket, name, original)
