"""``--to aws``: a convolution with a standardised kernel (DetectoRS, arXiv 2006.02334, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.weight[0].numel() == 1:
        return Reason("one-element-filters", "filters of one element: standardised, they could not be trained any more")
    return None


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    return Cost(0, 0)


AWS = Target(
    "aws",
    imported_later("saconv_surgeon.convs.aws:ConvAWS2d"),
    "a convolution with a standardised kernel, which DetectoRS puts everywhere else",
    _refuses,
    _adds,
)
