"""Convolutions in half precision on CPUs that have matrix tiles (AMX), of which torch's own fail for some geometries.

Seen with torch 2.13 in 32,000 random geometries in bfloat16 and float16, each against float64:

* A window of which no tap lies inside the map ends the process, or gives garbage.
* An output that is one column wide, with a stride of several columns, has garbage in bfloat16.

A plain convolution rarely has either; that of three times its dilation does on small maps. It is then computed in float32.
(A kernel four columns wide with a stride of four over 16 channels is wrong too, but only without dilation.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.geometry import narrow_padding, pair

HALF = (torch.bfloat16, torch.float16)


def run(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv(x)`` for a convolution, as :func:`convolve` computes it."""
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or not runs_in_half(x):
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
    """``F.conv2d`` padded by (left, right, top, bottom); in float32 and rounded if torch might fail in half precision."""
    left, right, top, bottom = padding
    if (left, top) != (right, bottom):
        x, left, top = F.pad(x, padding), 0, 0
    sides = (top, left)
    if not (runs_in_half(x) and fails(x, weight.shape[-2:], stride, sides, dilation)):
        return F.conv2d(x, weight, bias, stride, sides, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        y = F.conv2d(x.float(), weight.float(), None if bias is None else bias.float(), stride, sides, dilation, groups)
    return y.to(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype)


def runs_in_half(x: Tensor) -> bool:
    """Whether a convolution of ``x`` runs in half precision on a CPU, by its dtype or under autocast."""
    if x.device.type != "cpu":
        return False
    if x.dtype in HALF:
        return True
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") in HALF


def fails(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether this is one of the geometries that torch is known to fail for; False for sizes that are not known yet."""
    if any(isinstance(side, torch.SymInt) for side in x.shape[-2:]):
        return False
    outputs = (x.shape[-1] + 2 * padding[1] - dilation[1] * (kernel_size[1] - 1) - 1) // stride[1] + 1
    return (outputs == 1 and stride[1] > 1) or has_empty_windows(x, kernel_size, stride, padding, dilation)


def has_empty_windows(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether some output of a convolution of ``x`` has all its taps in the padding."""
    for size, k, s, p, d in zip(x.shape[-2:], kernel_size, stride, padding, dilation, strict=True):
        last = size + 2 * p - d * (k - 1) - 1
        for start in range(-p, last - p + 1, s):
            if not any(0 <= start + d * tap < size for tap in range(k)):
                return True
    return False
