"""``--to saconv``: switchable atrous convolution (DetectoRS, arXiv 2006.02334)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.geometry import smallest_map
from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def saconv_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    """Why ``conv`` cannot become an ``SAConv2d``, or None."""
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


def saconv_adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """Δw, two square contexts with bias, a switch with bias; the convolution runs twice."""
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


SACONV = Target(
    "saconv",
    imported_later("saconv_surgeon.convs.saconv:SAConv2d"),
    "switchable atrous convolution (DetectoRS)",
    saconv_refuses,
    saconv_adds,
    absorbs=True,
)
