"""Convolutions on CPUs, of which torch's own fail for some geometries.

Seen with torch 2.13 in 42,000 random geometries, each against float64, on a processor with matrix tiles (AMX):

* A window of which no tap lies inside the map ends the process, or gives garbage: in bfloat16 and float16, and in float32 with a
  bias in ``channels_last``. Such a map is padded first, so that every tap lies inside.
* An output that is one column wide, with a stride of several columns, has garbage in bfloat16.

A plain convolution rarely has either; that of three times its dilation does on small maps. In half precision it is then computed
in float32. (A kernel four columns wide with a stride of four over 16 channels is wrong too, but only without dilation.)
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
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or x.device.type != "cpu":
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
    in_float32 = runs_in_half(x) and fails(x, weight.shape[-2:], stride, sides, dilation)
    if x.device.type == "cpu" and may_have_empty_windows(x, weight.shape[-2:], sides, dilation):
        x, sides = F.pad(x, (left, left, top, top)), (0, 0)
    if not in_float32:
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
    if outputs == 1 and stride[1] > 1:
        return True
    may = may_have_empty_windows(x, kernel_size, padding, dilation)
    return may and has_empty_windows(x, kernel_size, stride, padding, dilation)


def may_have_empty_windows(
    x: Tensor, kernel_size: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether some window might have all its taps in the padding, told at once; False for sizes that are not known.

    Taps are ``dilation`` apart. If that is no more than the map is wide, a window that reaches over the map has one inside, and
    so does one that begins or ends inside; what is left are windows that end before the map, where padding is wider than they.
    """
    sizes = x.shape[-2:]
    if any(isinstance(side, torch.SymInt) for side in sizes):
        return False
    return any(d > size or p > d * (k - 1) for size, k, p, d in zip(sizes, kernel_size, padding, dilation, strict=True))


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
