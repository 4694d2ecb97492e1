"""``--to dcnv2``: modulated deformable convolution (Zhu et al., CVPR 2019, arXiv 1811.11168)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import outputs
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    import torch

    from saconv_surgeon.convs.deformable import missing_operator

    missing = missing_operator()
    if missing is not None:
        return Reason("no-operator", f"it needs torchvision's deform_conv2d: {missing}")
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: one sample that may move is no window")
    if conv.weight.dtype not in (torch.float32, torch.float64):
        return Reason("dtype", "torchvision's deform_conv2d would round in half precision: convert in float32")
    return None


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """A convolution of the same window from C_in to three numbers for each tap, with bias."""
    taps = prod(conv.kernel_size)
    kernel = 3 * taps * taps * conv.in_channels
    return Cost(kernel + 3 * taps, kernel * outputs(conv, shapes))


DCNV2 = Target(
    "dcnv2",
    imported_later("saconv_surgeon.convs.dcnv2:ModulatedDeformConv2d"),
    "modulated deformable convolution (DCNv2); needs torchvision",
    _refuses,
    _adds,
    after_folding=_adds,
    inexact="torchvision's deform_conv2d adds in another order than a convolution",
)
