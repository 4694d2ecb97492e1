"""``--to dilated-reparam``: a dilated reparam block (Ding et al., CVPR 2024, arXiv 2311.15599)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.dilated_branches import BRANCHES
from saconv_surgeon.convs.geometry import narrow_padding, pair, smallest_padded
from saconv_surgeon.convs.targets.target import Cost, Option, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import no_window, not_depthwise, one_pixel, outputs
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _size(text: str) -> int:
    size = int(text)
    if size not in BRANCHES:
        raise ValueError("there is no such block")
    return size


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    left, right, top, bottom = narrow_padding(conv)
    return max(top, bottom), max(left, right)


def _wider(conv: ConvArguments, options: Options) -> int:
    size: int = options["kernel"]
    return (size * size - prod(conv.kernel_size)) * conv.out_channels


def _left(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """What stays after folding: the wider kernel."""
    wider = _wider(conv, options)
    return Cost(wider, wider * outputs(conv, shapes))


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    shapes = tuple(shapes)
    reason = no_window(conv) or not_depthwise(conv) or one_pixel(shapes)
    if reason is not None:
        return reason
    if pair(conv.dilation) != (1, 1):
        return Reason("dilated", "its taps are dilated already: the block is defined for dense kernels")
    size = options["kernel"]
    if size < max(conv.kernel_size):
        return Reason("kernel-larger", f"its kernel is larger than {size}×{size} (--kernel)")
    large = tuple(p + (size - k) // 2 for p, k in zip(_padding(conv), conv.kernel_size, strict=True))
    height, width = smallest_padded((large[1], large[1], large[0], large[0]), conv.padding_mode)
    small = next((s for s in shapes if s.input[-2] < height or s.input[-1] < width), None)
    if small is not None:
        return Reason(
            "map-too-small",
            f"a map of {small.input[-2]}x{small.input[-1]} is too small for padding_mode={conv.padding_mode!r} of a kernel of "
            f"{size}×{size}, which needs {height}x{width}",
        )
    return None


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """The wider kernel, and the small ones with a norm each."""
    small = [k * k for k, _ in BRANCHES[options["kernel"]]]
    wider = _wider(conv, options)
    kernels = wider + sum(small) * conv.out_channels
    return Cost(kernels + 2 * len(small) * conv.out_channels, kernels * outputs(conv, shapes))


DILATED_REPARAM = Target(
    "dilated-reparam",
    imported_later("saconv_surgeon.convs.dilated_reparam:DilatedReparamConv2d"),
    "a depthwise kernel widened, with small dilated ones while training (UniRepLKNet)",
    _refuses,
    _adds,
    options={"kernel": Option("7", _size, "the size of the large kernel, an odd number from 5 to 17")},
    absorbs=True,
    norm_inside=True,
    inexact="a larger window is summed in another order",
    after_folding=_left,
)
