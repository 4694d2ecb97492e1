"""Room for models that are nested deeper than Python's recursion limit was made for.

Running a module takes three Python frames for each level, copying or tracing it more. The limit is raised while the library works
on a deep model or on deep inputs, and set back afterwards.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from torch import nn

FRAMES_PER_LEVEL = 40
"""More than what is done on any level takes, hooks and tracers included."""
SHALLOW = 20
"""Levels for which the usual limit is enough."""

P = ParamSpec("P")
R = TypeVar("R")
_lock = threading.Lock()
_needed: list[int] = []
_usual: list[int] = []


def nesting_of(value: Any) -> int:
    """How many levels of modules and containers lie inside each other; a container that holds itself counts once."""
    deepest, seen = 0, set()
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        held, level = pending.pop()
        children = _children(held)
        if not children or id(held) in seen:
            continue
        seen.add(id(held))
        deepest = max(deepest, level)
        pending += [(child, level + 1) for child in children]
    return deepest


def _children(value: Any) -> list[Any]:
    if isinstance(value, nn.Module):
        return [child for child in value._modules.values() if child is not None]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []


@contextmanager
def room_for(*values: Any) -> Iterator[None]:
    """Python's recursion limit is high enough inside for modules and inputs as deep as ``values``; calls may overlap."""
    depth = max(map(nesting_of, values), default=0)
    if depth <= SHALLOW:
        yield
        return
    with _lock:
        if not _needed:
            _usual[:] = [sys.getrecursionlimit()]
        needed = _usual[0] + FRAMES_PER_LEVEL * depth
        _needed.append(needed)
        sys.setrecursionlimit(max(_usual[0], *_needed))
    try:
        yield
    finally:
        with _lock:
            _needed.remove(needed)
            sys.setrecursionlimit(max(_usual[0], *_needed) if _needed else _usual[0])


def with_room(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with room for what it is called with, or for the ``model`` of that."""

    @functools.wraps(function)
    def roomy(*args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        with room_for(*given, *(getattr(value, "model", None) for value in given)):
            return function(*args, **kwargs)

    return roomy
