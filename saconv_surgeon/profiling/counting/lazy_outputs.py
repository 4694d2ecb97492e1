"""What a model returns before it has computed it: generators and other iterators, coroutines, functions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from torch import Tensor

from saconv_surgeon.models.running.output_leaves import ATOMS, children

LONGEST = 1000
"""Items that are taken out of an iterator: some never end."""
FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, partial)

ENDLESS = f"an iterator of more than {LONGEST:,} items, the rest"
AWAITED = "a coroutine that forward returns"
CALLABLE = "a function that forward returns"


def carried_out(output: Any, uncounted: Callable[[str], None]) -> Any:
    """``output`` with lists in place of its iterators and coroutines, at any depth: what they compute is computed by that.

    ``uncounted`` is told what cannot be carried out: the rest of an iterator that does not end, a coroutine inside a running
    event loop, a function, since nobody knows with what it will be called.
    """
    return _carried_out(output, uncounted, ())


def _carried_out(value: Any, uncounted: Callable[[str], None], inside: tuple[int, ...]) -> Any:
    if id(value) in inside or isinstance(value, (Tensor, *ATOMS)):
        return value
    if isinstance(value, FUNCTIONS):
        uncounted(CALLABLE)
        return value
    if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
        value = _awaited(value, uncounted)
    inside = (*inside, id(value))
    if isinstance(value, Iterator):
        items = [_carried_out(item, uncounted, inside) for item in islice(value, LONGEST)]
        if len(items) == LONGEST and next(value, None) is not None:
            uncounted(ENDLESS)
        return items
    parts = [child for _, child in children(value)]
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)) and not is_dataclass(value):
        parts = [child for child in parts if not isinstance(child, FUNCTIONS)]  # an object's own helpers
    if not parts:
        return value
    made = [(child, _carried_out(child, uncounted, inside)) for child in parts]
    return value if all(new is old for old, new in made) else [new for _, new in made]


def _awaited(value: Any, uncounted: Callable[[str], None]) -> Any:
    """The result of a coroutine, the items of an asynchronous iterator; None if they cannot be had here."""
    if asyncio._get_running_loop() is None and not asyncio.isfuture(value):
        loop = asyncio.new_event_loop()  # asyncio.run would take away the user's own
        try:
            return loop.run_until_complete(_collected(value, uncounted))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    if inspect.iscoroutine(value):
        value.close()
    uncounted(AWAITED)
    return None


async def _collected(value: Any, uncounted: Callable[[str], None]) -> Any:
    if not isinstance(value, AsyncIterator):
        return await value
    items: list[Any] = []
    async for item in value:
        items.append(item)
        if len(items) == LONGEST:
            uncounted(ENDLESS)
            break
    return items
