"""Values of tensors of all kinds: copying them, whether they are the same, and putting them back."""

from __future__ import annotations

import torch
from torch import Tensor

from saconv_surgeon.models.tree.writes import restore_values


def can_be_copied(dtype: torch.dtype) -> bool:
    """Whether torch copies tensors of this kind as numbers; if not, as of ``int4``, their bytes can be."""
    if dtype.itemsize > 1 or dtype.is_floating_point:
        return True
    try:
        torch.empty(1, dtype=dtype).clone()
    except (NotImplementedError, RuntimeError):
        return False
    return True


def copy_of(tensor: Tensor) -> Tensor:
    """A copy without a history, also of kinds of numbers that torch cannot copy but as bytes, such as ``int4``."""
    tensor = tensor.detach()
    try:
        return tensor.clone()
    except NotImplementedError:
        return tensor.view(torch.uint8).clone().view(tensor.dtype)


def put_back(tensor: Tensor, value: Tensor) -> None:
    """Gives ``tensor`` its ``value`` again, if it has another; compared first, so that an equal one is not written to."""
    if tensor.is_meta:
        return
    if tensor.is_nested:
        for part, old in zip(tensor.unbind(), value.unbind(), strict=True):
            put_back(part, old)
    elif tensor.layout is not torch.strided:
        tensor.copy_(value)
    elif tensor.shape != value.shape:
        tensor.resize_(value.shape).copy_(value)
    elif not same_values(tensor, value):
        try:
            restore_values([(tensor, value)])
        except NotImplementedError:
            restore_values([(tensor.data.view(torch.uint8), value.view(torch.uint8))])


def same_values(a: Tensor, b: Tensor) -> bool:
    """Whether dense tensors, or nested ones, have the same dtype, shapes and values; NaN is the same as NaN."""
    if a.is_nested or b.is_nested:
        parts = (a.unbind(), b.unbind()) if a.is_nested and b.is_nested else ((), (b,))
        return len(parts[0]) == len(parts[1]) and all(map(same_values, *parts))
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    try:
        return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
    except RuntimeError:  # kinds of numbers with which torch cannot calculate, complex32 and float4 among them
        return torch.equal(_bytes(a), _bytes(b))


def _bytes(t: Tensor) -> Tensor:
    try:
        return t.detach().contiguous().reshape(-1).view(torch.uint8)
    except NotImplementedError:  # cannot even be put in order
        return t.detach().view(torch.uint8)
