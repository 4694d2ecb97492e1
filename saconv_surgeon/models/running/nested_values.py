"""Values of any nesting that a model is run on: containers, dataclasses, objects of the user's own, with tensors inside."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

ATOMS = (str, bytes, bool, int, float, complex, type(None), type)
Change = Callable[[Any], Any]


def is_image(value: Any) -> bool:
    """Whether ``value`` is an image of PIL, which need not be installed."""
    return any(base.__module__.startswith("PIL.") and base.__name__ == "Image" for base in type(value).__mro__)


def is_data(value: Any) -> bool:
    """Whether ``value`` is a tensor, a numpy array or an image."""
    return isinstance(value, (Tensor, np.ndarray)) or is_image(value)


def data_in(value: Any) -> list[Any]:
    """The tensors, numpy arrays and PIL images in ``value``, each once, in order.

    Of a ``PackedSequence`` only the data: everything else in it are indices that belong together.
    """
    found: dict[int, Any] = {}
    for leaf in _walk(value, set()):
        found.setdefault(id(leaf), leaf)
    return list(found.values())


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors in ``value``, in the order of the arguments, one that is there twice twice if it lies in plain containers."""
    if is_plain(value):
        return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
    return [leaf for leaf in data_in(value) if isinstance(leaf, Tensor)]


def is_plain(value: Any) -> bool:
    """Whether there are only tensors and atoms, in lists, tuples and dicts."""
    return all(isinstance(leaf, (Tensor, *ATOMS)) for leaf in pytree.tree_leaves(value))


def changed(value: Any, change: Change) -> Any:
    """A copy of ``value`` with ``change`` of every tensor, also inside objects, which are copied.

    What cannot be copied stays as it is.
    """
    if is_plain(value):
        return pytree.tree_map_only(Tensor, change, value)
    kept = {key: change(tensor) for key, tensor in {id(t): t for t in _tensors_anywhere(value)}.items()}
    return pytree.tree_map(lambda leaf: _copied(leaf, kept), value)


def replaced(value: Any, new: Mapping[int, Any]) -> Any:
    """A copy of ``value`` with other data, by the ``id`` of those in it that :func:`data_in` finds."""
    return pytree.tree_map(lambda leaf: _copied(leaf, new), value)


def _copied(leaf: Any, new: Mapping[int, Any]) -> Any:
    if id(leaf) in new:
        return new[id(leaf)]
    if isinstance(leaf, ATOMS):
        return leaf
    memo: dict[int, Any] = {**new, **{id(m): m for m in _modules(leaf)}}
    try:
        return copy.deepcopy(leaf, memo)
    except Exception:  # a generator, a file, a lock
        return leaf


def _tensors_anywhere(value: Any) -> Iterator[Tensor]:
    for leaf in _walk(value, set(), parts=True):
        if isinstance(leaf, Tensor):
            yield leaf


def _modules(value: Any) -> Iterator[nn.Module]:
    return (leaf for leaf in _walk(value, set(), parts=True) if isinstance(leaf, nn.Module))


def _walk(value: Any, inside: set[int], *, parts: bool = False) -> Iterator[Any]:
    """Data and modules; with ``parts``, everything in a ``PackedSequence``."""
    if isinstance(value, nn.Module) or is_data(value):
        if parts or not isinstance(value, nn.Module):
            yield value
        return
    if isinstance(value, ATOMS) or id(value) in inside:
        return
    inside.add(id(value))
    if isinstance(value, PackedSequence) and not parts:
        yield value.data
        return
    for child in children(value):
        yield from _walk(child, inside, parts=parts)


def children(value: Any) -> Iterator[Any]:
    """What a container, a dataclass or an object holds, in order."""
    if isinstance(value, Mapping):
        yield from list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(value))
    if not callable(value) or hasattr(value, "__slots__"):
        yield from list(getattr(value, "__dict__", {}).values())
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            yield from (getattr(value, name, None) for name in ((slots,) if isinstance(slots, str) else slots))
