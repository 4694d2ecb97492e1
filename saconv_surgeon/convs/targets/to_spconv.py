"""``--to spconv``: split convolution (SPConv, arXiv 2006.12085)."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.geometry import pair
from saconv_surgeon.convs.spconv_geometry import first_window, halves, representative_channels
from saconv_surgeon.convs.targets.target import Cost, Option, Options, Reason, Target, imported_later
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: there is nothing to save")
    if conv.groups == conv.in_channels > 1:
        return Reason("depthwise", "depthwise: channels that are not mixed cannot be split")
    if conv.groups > 1:
        return Reason("grouped", "grouped: its channels are split already")
    representative = representative_channels(conv.in_channels, options["ratio"])
    if representative < 2:
        return Reason(
            "few-channels",
            f"{representative} of its {conv.in_channels} channels would be representative: two groups need two",
        )
    if conv.out_channels < 2:
        return Reason("few-channels", "one output channel: two groups need two")
    outside = next((size for size in _outputs_outside(conv, shapes)), None)
    if outside is not None:
        return Reason(
            "padding", f"padded so far that outputs at the edge of a map of {outside} have no pixel beneath them"
        )
    return None


def _outputs_outside(conv: nn.Conv2d, shapes: Iterable[CallShape]) -> Iterable[str]:
    """The sizes of maps with outputs whose pooling window has no pixels."""
    begin = first_window(conv)
    for shape in shapes:
        sizes = zip(begin, pair(conv.stride), shape.input[-2:], shape.output[-2:], strict=True)
        if any(start < -(s // 2) or start + (out - 1) * s >= side for start, s, side, out in sizes):
            yield f"{shape.input[-2]}x{shape.input[-1]}"


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """Two groups of k×k and a 1×1 over some channels, a 1×1 with bias over the rest, two norms, minus the convolution."""
    c_in, c_out = conv.in_channels, conv.out_channels
    r = representative_channels(c_in, options["ratio"])
    taps = prod(conv.kernel_size)
    kernels = taps * sum(a * b for a, b in zip(halves(r), halves(c_out), strict=True)) + c_in * c_out
    saved = taps * c_in * c_out
    positions = sum(s.calls * prod(s.output) // c_out for s in shapes)
    return Cost(kernels + 5 * c_out - saved - c_out * conv.bias, (kernels - saved) * positions)


def _ratio(text: str) -> Fraction:
    try:
        value = Fraction(text.strip()).limit_denominator(10**6)
    except (ValueError, ZeroDivisionError):
        raise ValueError("it is not a number") from None
    if not 0 < value < 1:
        raise ValueError("it is not between 0 and 1")
    return value


SPCONV = Target(
    "spconv",
    imported_later("saconv_surgeon.convs.spconv:SPConv2d"),
    "split convolution (SPConv): fewer weights and operations, not the same function",
    _refuses,
    _adds,
    options={"ratio": Option("1/2", _ratio, "the share α of representative channels, as in 1/2, 1/4 or 0.125")},
    inits=("project", "calibrate", "random"),
)
