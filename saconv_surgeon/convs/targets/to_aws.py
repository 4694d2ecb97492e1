"""``--to aws``: a convolution with a standardised kernel (DetectoRS, arXiv 2006.02334, section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason, Target, imported_later
from saconv_surgeon.records import CallShape, ConvArguments, ConvSite

if TYPE_CHECKING:
    from torch import nn


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.weight[0].numel() == 1:
        return Reason("one-element-filters", "filters of one element: standardised, they could not be trained any more")
    return None


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    return Cost(0, 0)


def fixed_filters(site: ConvSite) -> str | None:
    """What a standardised kernel cannot do without a norm after it; None if one follows, or if that is not known."""
    if site.reaches_norm is not False:
        return None
    return "no norm follows: training cannot change the scale and mean of its filters (gamma and beta are not trained)"


def _notes(site: ConvSite, options: Options) -> str | None:
    return fixed_filters(site)


AWS = Target(
    "aws",
    imported_later("saconv_surgeon.convs.aws:ConvAWS2d"),
    "a convolution with a standardised kernel, which DetectoRS puts everywhere else",
    _refuses,
    _adds,
    after_folding=_adds,
    note=_notes,
)
