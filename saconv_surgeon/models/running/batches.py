"""Which tensors and lists among a model's inputs have one entry for each sample, and inputs with others of these samples.

Inputs may nest tensors in lists, tuples, dicts, dataclasses, a ``PackedSequence`` and nested tensors.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence
from torch.utils import _pytree as pytree

from saconv_surgeon.errors import UsageError, first_line
from saconv_surgeon.models.running.nested_values import changed as changed_object
from saconv_surgeon.models.running.nested_values import data_in, is_image

SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def _loose_tensors(value: Any) -> list[Tensor]:
    """All tensors, in order, but for those of packed sequences; a nested tensor is one."""
    found: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        found.append(t)
        return t

    _mapped(value, lambda leaf: keep(leaf) if isinstance(leaf, Tensor) else leaf)
    return found


def mapped_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """``value`` with ``change`` of every tensor; of a nested one, of its parts, which keep their lengths.

    Objects that hold tensors are copied.
    """

    def changed(leaf: Any) -> Any:
        if isinstance(leaf, PackedSequence):
            data = change(leaf.data)
            order = (None if i is None else i.to(data.device) for i in (leaf.sorted_indices, leaf.unsorted_indices))
            return PackedSequence(data, leaf.batch_sizes, *order)
        if not isinstance(leaf, Tensor):
            return changed_object(leaf, change)
        return _changed_parts(change, leaf) if leaf.is_nested else change(leaf)

    return _mapped(value, changed)


def _changed_parts(change: Callable[[Tensor], Tensor], nested: Tensor) -> Tensor:
    if nested.layout is not torch.jagged:
        return torch.nested.as_nested_tensor([change(part) for part in nested.unbind()])
    values = change(nested.values())
    offsets, lengths = nested.offsets(), nested.lengths()  # type: ignore[attr-defined]
    return torch.nested.nested_tensor_from_jagged(
        values, offsets.to(values.device), None if lengths is None else lengths.to(values.device)
    )


def batch_of(value: Any, axis: int = 0) -> int | None:
    """How many samples there are; None if nothing shows it.

    The length of the list that the samples are in, one image, dict or object each; otherwise the size along ``axis`` of the
    largest floating tensor of three or more dimensions; otherwise how many sequences are packed; otherwise the length of a list
    of objects that hold less than images; otherwise the size of the first tensor that has the axis.
    """
    samples = next(_sample_lists(value), None)
    if samples is not None:
        return len(samples)
    found = [t for t in _loose_tensors(value) if t.dim() > axis]
    maps = [t for t in found if (t.is_floating_point() or t.is_complex()) and t.dim() >= 3]
    if maps:
        return int(max(maps, key=Tensor.numel).size(axis))
    packed = [leaf for leaf in pytree.tree_leaves(value, is_leaf=_is_packed) if _is_packed(leaf)]
    if packed:
        return int(packed[0].batch_sizes[0])
    objects = next(_sample_lists(value, least=0), None)
    if objects is not None:
        return len(objects)
    return int(found[0].size(axis)) if found else None


def picked(value: Any, which: Tensor, axis: int = 0) -> Any:
    """``value`` with the samples at the indices ``which``, of every tensor and list that has one entry for each sample.

    A tensor that has no such axis is left alone, unless its first axis has one entry for each, as lengths have.
    """
    batch = batch_of(value, axis)

    def of_each(leaf: Any) -> bool:
        return isinstance(leaf, list) and len(leaf) == batch and _one_for_each(leaf, batch, axis)

    def pick(leaf: Any) -> Any:
        if of_each(leaf):
            return [leaf[i] for i in which.tolist()]
        if isinstance(leaf, PackedSequence) and int(leaf.batch_sizes[0]) == batch:
            sequences = unpack_sequence(leaf)
            return pack_sequence([sequences[i] for i in which.tolist()], enforce_sorted=False)
        return _picked(leaf, which, batch, axis) if isinstance(leaf, Tensor) else leaf

    return _mapped(value, pick, of_each)


def no_batch(tensors: Sequence[Tensor], axis: int) -> str:
    """Why inputs have no batch to change, for an error."""
    if axis == 0:
        return "the inputs have no batch to change; leave --batch out"
    sizes = ", ".join(f"{t.dim()}" for t in tensors) or "no tensors"
    return f"no input has an axis {axis}: their numbers of dimensions are {sizes}; axes are counted from 0"


def _picked(t: Tensor, which: Tensor, batch: int | None, axis: int) -> Tensor:
    along = next((d for d in (axis, 0) if t.dim() > d and t.size(d) == batch), None)
    if along is None:
        return t
    if t.is_nested:
        parts = t.unbind()
        return torch.nested.as_nested_tensor([parts[i] for i in which.tolist()], layout=t.layout)
    try:
        chosen = _selected(t, which.to(t.device), along)
    except RuntimeError as error:
        if _can_select(t, along):
            raise  # it is their number: there is no memory for so many
        kind = str(t.dtype if t.layout is torch.strided else t.layout).removeprefix("torch.")
        raise UsageError(
            f"torch cannot pick samples from a tensor of kind {kind} ({first_line(error)}); leave --batch out"
        ) from error
    if chosen.layout is not torch.strided:
        return chosen
    last = t.dim() == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
    return chosen.contiguous(memory_format=torch.channels_last) if last else chosen


def _selected(t: Tensor, which: Tensor, along: int) -> Tensor:
    if t.dtype in SIGNED:  # torch selects from few unsigned kinds
        return t.view(SIGNED[t.dtype]).index_select(along, which).view(t.dtype)
    if t.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        blocks = t.values().shape[1:3] if t.layout in (torch.sparse_bsr, torch.sparse_bsc) else None
        return t.to_dense().index_select(along, which).to_sparse(layout=t.layout, blocksize=blocks)
    return t.index_select(along, which)


def _can_select(t: Tensor, along: int) -> bool:
    try:
        _selected(t, torch.zeros(1, dtype=torch.int64, device=t.device), along)
    except RuntimeError:
        return False
    return True


def _mapped(value: Any, change: Callable[[Any], Any], whole: Callable[[Any], bool] = lambda leaf: False) -> Any:
    """``value`` with ``change`` of its leaves; those that torch's trees do not look into are looked into here."""

    def of_leaf(leaf: Any) -> Any:
        twin: Any
        if isinstance(leaf, UserDict):
            twin = copy.copy(leaf)
            twin.data = _mapped(leaf.data, change, whole)
            return twin
        if _is_record(leaf):
            twin = copy.copy(leaf)
            for f in dataclasses.fields(leaf):
                if hasattr(leaf, f.name):
                    object.__setattr__(twin, f.name, _mapped(getattr(leaf, f.name), change, whole))
            return twin
        return change(leaf)

    return pytree.tree_map(of_leaf, value, is_leaf=lambda leaf: _is_packed(leaf) or whole(leaf))


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _is_packed(value: Any) -> bool:
    return isinstance(value, PackedSequence)


def _sample_lists(value: Any, least: int = 3) -> Iterator[list[Any]]:
    """Lists of images, one tensor of three dimensions each, or of dicts or objects that hold what belongs to one sample.

    ``least`` is how many dimensions the largest data of an object must have.
    """
    if isinstance(value, list) and value and all(_is_sample(item, least) for item in value):
        yield value
        return
    parts: list[Any] = []
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, tuple) and not _is_packed(value):
        parts = list(value)
    elif _is_record(value):
        parts = [getattr(value, f.name, None) for f in dataclasses.fields(value)]
    for part in parts:
        yield from _sample_lists(part, least)


def _is_sample(item: Any, least: int = 3) -> bool:
    if isinstance(item, Tensor):
        return item.dim() == 3 and not item.is_nested
    if isinstance(item, np.ndarray):
        return item.ndim == 3
    if isinstance(item, Mapping):
        sizes, least = [t.dim() for t in _loose_tensors(dict(item))], 0
    elif isinstance(item, tuple):
        sizes, least = [t.dim() for t in _loose_tensors(item)], 3
    else:  # an object, or an image of PIL
        sizes = [] if isinstance(item, list) else [3 if is_image(data) else data.ndim for data in data_in(item)]
    return bool(sizes) and least <= max(sizes) <= 3


def _one_for_each(items: list[Any], batch: int, axis: int) -> bool:
    """Whether a list, as long as there are samples, has one item for each: not features of several sizes, not plain numbers."""
    if all(map(_is_sample, items)):
        return True
    if all(isinstance(item, Tensor) for item in items):
        return not all(t.dim() > axis and t.size(axis) == batch for t in items)
    return not all(isinstance(item, (bool, int, float, complex)) for item in items)
