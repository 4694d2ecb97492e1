"""``--to saconv-deform``: switchable atrous convolution with deformable branches (DetectoRS, arXiv 2006.02334)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.geometry import TAPS, offsets_line_up
from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.to_saconv import saconv_adds, saconv_notes, saconv_refuses
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    import torch

    from saconv_surgeon.convs.deformable import missing_operator

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
    return saconv_refuses(conv, shapes, options)


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """As SAConv, and two 3×3 convolutions from C_in to 18 channels, with bias."""
    shapes = tuple(shapes)
    cost = saconv_adds(conv, shapes, options)
    offsets = 2 * TAPS * 9 * conv.in_channels
    positions = sum(s.calls * prod(s.output) // conv.out_channels for s in shapes)
    return Cost(cost.parameters + 2 * (offsets + 2 * TAPS), cost.macs + 2 * offsets * positions)


SACONV_DEFORM = Target(
    "saconv-deform",
    imported_later("saconv_surgeon.convs.deformable:DeformableSAConv2d"),
    "the same with deformable branches; needs torchvision",
    _refuses,
    _adds,
    absorbs=True,
    inexact="torchvision's deform_conv2d adds in another order than a convolution",
    note=saconv_notes,
)
