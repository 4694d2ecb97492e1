"""What a convolution can be converted to: one entry for each target, and nothing about it anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from importlib.metadata import EntryPoint, entry_points
from math import prod

import torch
from torch import nn
from torch.nn.modules.utils import _pair

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.deformable import TAPS, DeformableSAConv2d, missing_operator, offsets_line_up
from saconv_surgeon.convs.geometry import smallest_map
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.convs.spconv import SPConv2d, first_window, halves, representative_channels
from saconv_surgeon.convs.target import Cost, Option, Options, Reason, Target
from saconv_surgeon.errors import UsageError, first_line
from saconv_surgeon.records import CallShape, ConvArguments

ENTRY_POINTS = "saconv_surgeon.targets"
"""The group under which other packages offer a ``Target``."""


def find_target(name: str) -> Target:
    """The target called ``name``, of this package or of another that offers one.

    Raises:
        UsageError: There is none, or the package that offers it is broken.
    """
    if name in TARGETS:
        return TARGETS[name]
    offered = offered_targets()
    if name not in offered:
        raise UsageError(f"no conversion target {name!r}; there is: {', '.join(sorted({*TARGETS, *offered}))}")
    return _loaded(offered[name])


def offered_targets() -> dict[str, EntryPoint]:
    """The targets of other packages by name, not imported yet."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in TARGETS}


def _loaded(entry: EntryPoint) -> Target:
    try:
        target = entry.load()
    except Exception as error:
        raise UsageError(
            f"the conversion target {entry.name!r}, {entry.value}, cannot be imported "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    if not isinstance(target, Target) or target.name != entry.name:
        raise UsageError(
            f"the conversion target {entry.name!r}, {entry.value}, is no saconv_surgeon.Target of that name but {target!r:.80}"
        )
    return target


# ------------------------------------------------------------------ saconv


def _saconv_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: dilation has no effect")
    if conv.groups == conv.in_channels > 1 and not options["allow_depthwise"]:
        return Reason("depthwise", "depthwise: dense contexts would outweigh it (--allow-depthwise)")
    height, width = smallest_map(conv)
    for shape in shapes:
        h, w = shape.input[-2:]
        if h < height or w < width:
            return Reason(
                "map-too-small",
                f"a map of {h}x{w} is too small for padding_mode={conv.padding_mode!r} at three times the dilation, "
                f"which needs {height}x{width}",
            )
    return None


def _saconv_adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """SAC.md's count: Δw, two square contexts with bias, a switch with bias; the convolution runs twice."""
    c_in, c_out = conv.in_channels, conv.out_channels
    kernel = prod(conv.kernel_size) * c_in // conv.groups
    parameters = kernel * c_out + c_in**2 + c_in + c_out**2 + c_out + c_in + 1
    macs = 0
    for shape in shapes:
        batch = prod(shape.input[:-3])
        wide = prod(shape.output) * kernel
        switch = batch * c_in * prod(shape.input[-2:])
        macs += shape.calls * (wide + switch + batch * (c_in**2 + c_out**2))
    return Cost(parameters, macs)


# ------------------------------------------------------------------ saconv-deform


def _deformable_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    missing = missing_operator()
    if missing is not None:
        return Reason("no-operator", f"deformable branches need torchvision's deform_conv2d: {missing}")
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: dilation has no effect")
    if conv.kernel_size != (3, 3):
        return Reason("kernel-not-3x3", "deformable branches have offsets for 3×3 kernels only")
    if not offsets_line_up(conv):
        return Reason(
            "padding", "deformable branches need a padding equal to the dilation: their offsets are maps of that size"
        )
    if conv.weight.dtype not in (torch.float32, torch.float64):
        return Reason("dtype", "torchvision's deform_conv2d would round in half precision: convert in float32")
    return _saconv_refuses(conv, shapes, options)


def _deformable_adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """As SAConv, and two 3×3 convolutions from C_in to 18 channels, with bias."""
    shapes = tuple(shapes)
    cost = _saconv_adds(conv, shapes, options)
    offsets = 2 * TAPS * 9 * conv.in_channels
    positions = sum(s.calls * prod(s.output) // conv.out_channels for s in shapes)
    return Cost(cost.parameters + 2 * (offsets + 2 * TAPS), cost.macs + 2 * offsets * positions)


# ------------------------------------------------------------------ aws


def _aws_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.weight[0].numel() == 1:
        return Reason("one-element-filters", "filters of one element: standardised, they could not be trained any more")
    return None


def _aws_adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    return Cost(0, 0)


# ------------------------------------------------------------------ spconv


def _spconv_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
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
    """The sizes of maps that have outputs whose pooling window holds no pixel."""
    begin = first_window(conv)
    for shape in shapes:
        sizes = zip(begin, _pair(conv.stride), shape.input[-2:], shape.output[-2:], strict=True)
        if any(start < -(s // 2) or start + (out - 1) * s >= side for start, s, side, out in sizes):
            yield f"{shape.input[-2]}x{shape.input[-1]}"


def _spconv_adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """Two groups of k×k and a 1×1 over some channels, a 1×1 with bias over the rest, two norms; less the convolution."""
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
        raise ValueError("it is no number") from None
    if not 0 < value < 1:
        raise ValueError("it is not between 0 and 1")
    return value


# ------------------------------------------------------------------ the table

TARGETS = {
    target.name: target
    for target in (
        Target(
            "saconv",
            SAConv2d,
            "switchable atrous convolution (DetectoRS)",
            _saconv_refuses,
            _saconv_adds,
            absorbs=True,
        ),
        Target(
            "saconv-deform",
            DeformableSAConv2d,
            "the same with deformable branches; needs torchvision",
            _deformable_refuses,
            _deformable_adds,
            absorbs=True,
            inexact="torchvision's deform_conv2d adds in another order than a convolution",
        ),
        Target(
            "aws",
            ConvAWS2d,
            "a convolution with a standardised kernel, which DetectoRS puts everywhere else",
            _aws_refuses,
            _aws_adds,
        ),
        Target(
            "spconv",
            SPConv2d,
            "split convolution (SPConv): fewer weights and operations, not the same function",
            _spconv_refuses,
            _spconv_adds,
            options={"ratio": Option("1/2", _ratio, "the share α of representative channels, as in 1/2, 1/4 or 0.125")},
            inits=("project", "calibrate", "random"),
        ),
    )
}
