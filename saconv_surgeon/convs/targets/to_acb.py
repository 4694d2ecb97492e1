"""``--to acb``: an asymmetric convolution block (Ding et al., ICCV 2019, arXiv 1908.03930)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import no_window, nothing_left, one_pixel, outputs
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if 1 in conv.kernel_size and conv.kernel_size != (1, 1):
        return Reason("one-row", "a kernel of one row or one column is its own skeleton")
    return no_window(conv) or one_pixel(shapes)


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """A k×1 and a 1×k kernel, each with a norm."""
    kernels = sum(conv.kernel_size) * conv.out_channels * conv.in_channels // conv.groups
    return Cost(kernels + 4 * conv.out_channels, kernels * outputs(conv, shapes))


ACB = Target(
    "acb",
    imported_later("saconv_surgeon.convs.acb:ACBConv2d"),
    "a column and a row beside the kernel while training (ACNet); folds to one convolution",
    _refuses,
    _adds,
    absorbs=True,
    norm_inside=True,
    after_folding=nothing_left,
)
