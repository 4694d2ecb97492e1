"""The leaves of what a model returns, in any nesting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from torch import Tensor

from saconv_surgeon.errors import ModelError

MOST_YIELDED = 100_000
ATOMS = (str, bytes, bool, int, float, complex, type(None))


def leaves(value: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """(name, leaf) for every tensor, number, string or None in nested sequences, mappings, dataclasses and objects.

    Names read like the expression that reaches the leaf: ``output[0]['boxes']``, ``output.logits``. An object that is found
    again inside itself is passed over. A nested tensor has one leaf for each of its parts.
    """
    return _leaves(value, name, ())


def collected(value: Any) -> Any:
    """``value`` with a list in the place of every iterator: what a forward yields has not run until it is asked for.

    Raises:
        ModelError: It yields without end.
    """
    if isinstance(value, (Tensor, *ATOMS)):
        return value
    if isinstance(value, Iterator):
        items = list(islice(value, MOST_YIELDED + 1))
        if len(items) > MOST_YIELDED:
            raise ModelError(
                f"the model yields more than {MOST_YIELDED} outputs, perhaps without end; give one whose forward stops"
            )
        return [collected(item) for item in items]
    if type(value) in (list, tuple):
        return type(value)(collected(item) for item in value)
    if type(value) is dict:
        return {key: collected(item) for key, item in value.items()}
    return value


def tensors(value: Any) -> list[Tensor]:
    """The tensors among the leaves."""
    return [leaf for _, leaf in leaves(value) if isinstance(leaf, Tensor)]


def _leaves(value: Any, name: str, inside: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor) and value.is_nested:
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value.unbind()))
        return
    if isinstance(value, (Tensor, *ATOMS)):
        yield name, value
        return
    if id(value) in inside:
        return
    for part, child in children(value):
        yield from _leaves(child, name + part, (*inside, id(value)))


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, part) for what a sequence, a mapping, a dataclass or an object holds; nothing for a leaf."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{field}", getattr(value, field)) for field in value._fields)
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value))
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        yield from ((f".{key}", item) for key, item in vars(value).items())
