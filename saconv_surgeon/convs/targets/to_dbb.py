"""``--to dbb``: a diverse branch block (Ding et al., CVPR 2021, arXiv 2103.13425)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import inputs, no_window, nothing_left, one_pixel, outputs
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    return no_window(conv) or one_pixel(shapes)


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """The 1×1, the average with a 1×1 and two norms, the 1×1–k×k with two; what mixes channels not for depthwise ones."""
    c_in, c_out, groups, shapes = conv.in_channels, conv.out_channels, conv.groups, tuple(shapes)
    mixes, here, there = not groups == c_in == c_out, inputs(conv, shapes), outputs(conv, shapes)
    point = c_out * c_in // groups
    parameters = macs = 0
    if mixes:
        parameters, macs = point + 2 * c_out, point * there
    if tuple(conv.dilation) == (1, 1):
        parameters += 2 * c_out + (point + 2 * c_out) * mixes
        macs += point * here * mixes
    between = c_in if mixes else 2 * c_in
    first, second = between * c_in // groups, c_out * between // groups * prod(conv.kernel_size)
    return Cost(parameters + first + 2 * between + second + 2 * c_out, macs + first * here + second * there)


DBB = Target(
    "dbb",
    imported_later("saconv_surgeon.convs.dbb:DBBConv2d"),
    "1×1, average and 1×1-k×k branches while training (DBB); folds to one convolution",
    _refuses,
    _adds,
    absorbs=True,
    norm_inside=True,
    after_folding=nothing_left,
)
