"""Wrapping functions of other libraries, once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

OURS = "saconv_surgeon"
"""The attribute by which a function is known to be wrapped."""


def wrap(owner: Any, name: str, wrapping: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts ``wrapping(stock)`` in the place of ``owner.name``, with ``stock`` as its ``__wrapped__``; does it once."""
    stock = getattr(owner, name)
    if not hasattr(stock, OURS):
        wrapped = functools.wraps(stock)(wrapping(stock))
        setattr(wrapped, OURS, True)
        setattr(owner, name, wrapped)
