"""``--to refconv``: a refocused kernel (Cai et al., 2023, arXiv 2310.10563)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import nothing_left
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: there are no taps to refocus")
    return None


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """A 3×3 kernel over each plane of the kernel, for each group."""
    planes = conv.out_channels * conv.in_channels // conv.groups
    kernel = 9 * planes * conv.groups
    return Cost(kernel, kernel * prod(conv.kernel_size) * sum(s.calls for s in shapes))


REFCONV = Target(
    "refconv",
    imported_later("saconv_surgeon.convs.refconv:RefConv2d"),
    "the trained kernel stays, a convolution over it is learnt (RefConv); folds to one convolution",
    _refuses,
    _adds,
    after_folding=nothing_left,
)
