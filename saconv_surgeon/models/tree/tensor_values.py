"""Values of tensors of all kinds: whether they are the same, and putting them back."""

from __future__ import annotations

import torch
from torch import Tensor

from saconv_surgeon.models.tree.writes import restore_values


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
    elif not _same(tensor, value):
        restore_values([(tensor, value)])


def _same(a: Tensor, b: Tensor) -> bool:
    try:
        return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
    except (RuntimeError, NotImplementedError):  # dtypes without arithmetic, complex32 and float4 among them
        return torch.equal(_bytes(a), _bytes(b))


def _bytes(t: Tensor) -> Tensor:
    return t.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
