"""The leaves of what a model returns, in any nesting."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

ATOMS = (str, bytes, bool, int, float, complex, type(None))


def leaves(value: Any, name: str = "output") -> Iterator[tuple[str, Any]]:
    """(name, leaf) for every tensor, number, string or None in nested sequences, mappings, dataclasses and objects.

    Names read like the expression that reaches the leaf: ``output[0]['boxes']``, ``output.logits``. An object that is found
    again inside itself is passed over.
    """
    return _leaves(value, name, ())


def tensors(value: Any) -> list[Tensor]:
    """The tensors among the leaves."""
    return [leaf for _, leaf in leaves(value) if isinstance(leaf, Tensor)]


def _leaves(value: Any, name: str, inside: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
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
