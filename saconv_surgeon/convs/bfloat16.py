"""Convolutions in bfloat16 on CPUs that have matrix tiles (AMX), on which torch's own crashes for some geometries.

Seen with torch 2.13: a window of which no tap lies inside the map ends the process. A plain convolution rarely has one; that of
three times its dilation does on small maps, if the kernel is even or its padding is not half of its span.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.geometry import narrow_padding, pair


def run(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv(x)`` for a convolution, as :func:`convolve` computes it."""
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or not runs_in_bfloat16(x):
        y: Tensor = conv(x)
        return y
    padding, steps = narrow_padding(conv), (pair(conv.stride), pair(conv.dilation))
    return convolve(x, conv.weight, conv.bias, steps[0], padding, steps[1], conv.groups)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """``F.conv2d`` padded by (left, right, top, bottom); computed in float32 and rounded if torch might crash in bfloat16."""
    left, right, top, bottom = padding
    if (left, top) != (right, bottom):
        x, left, top = F.pad(x, padding), 0, 0
    sides = (top, left)
    if not (runs_in_bfloat16(x) and has_empty_windows(x, weight.shape[-2:], stride, sides, dilation)):
        return F.conv2d(x, weight, bias, stride, sides, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        y = F.conv2d(x.float(), weight.float(), None if bias is None else bias.float(), stride, sides, dilation, groups)
    return y.bfloat16()


def runs_in_bfloat16(x: Tensor) -> bool:
    """Whether a convolution of ``x`` runs in bfloat16 on a CPU, by its dtype or under autocast."""
    if x.device.type != "cpu":
        return False
    if x.dtype == torch.bfloat16:
        return True
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def has_empty_windows(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether some output of a convolution of ``x`` has all its taps in the padding; False for sizes that are not known yet."""
    if any(isinstance(side, torch.SymInt) for side in x.shape[-2:]):
        return False
    for size, k, s, p, d in zip(x.shape[-2:], kernel_size, stride, padding, dilation, strict=True):
        last = size + 2 * p - d * (k - 1) - 1
        for start in range(-p, last - p + 1, s):
            if not any(0 <= start + d * tap < size for tap in range(k)):
                return True
    return False
