"""``--to repvgg``: RepVGG's branches (Ding et al., CVPR 2021, arXiv 2101.03697)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import no_window, nothing_left, one_pixel, outputs
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    return no_window(conv) or one_pixel(shapes)


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """A 1×1 kernel and its norm; a norm for the identity."""
    kernel = conv.out_channels * conv.in_channels // conv.groups
    identity = conv.in_channels == conv.out_channels and tuple(conv.stride) == (1, 1)
    return Cost(kernel + (4 if identity else 2) * conv.out_channels, kernel * outputs(conv, shapes))


REPVGG = Target(
    "repvgg",
    imported_later("saconv_surgeon.convs.repvgg:RepVGGConv2d"),
    "1×1 and identity branches while training (RepVGG); folds to one convolution",
    _refuses,
    _adds,
    absorbs=True,
    norm_inside=True,
    after_folding=nothing_left,
)
