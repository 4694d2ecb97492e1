"""The memory format of maps and kernels, which decides in which order a norm adds, and so its last bit."""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out_like(t: Tensor, like: Tensor) -> Tensor:
    """``t`` with the strides of ``like``, which has the same shape; ``t`` itself if it has them.

    Operations choose strides anew if those of a map are ambiguous: with one channel, or of one pixel, it is contiguous and
    ``channels_last`` at once. Then only numbers change, otherwise the values are copied. Where operations are recorded, as by
    ``torch.compile``, nothing is changed: a compiler lays tensors out by itself.
    """
    if torch.compiler.is_compiling() or t.stride() == like.stride():
        return t
    if torch.jit.is_tracing() or torch._C._are_functorch_transforms_active():  # type: ignore[attr-defined]
        return t
    wanted = torch.empty_like(like, device="meta").stride()  # of a slice, the strides of a dense copy
    if t.stride() == wanted or t.shape != like.shape:
        return t
    sides = zip(t.shape, t.stride(), wanted, strict=True)
    if all(size == 1 or old == new for size, old, new in sides):
        return t.as_strided(t.shape, wanted)
    return torch.empty_strided(t.shape, wanted, dtype=t.dtype, device=t.device).copy_(t)
