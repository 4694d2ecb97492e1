"""What each convolution of a model could become, and for what price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from saconv_surgeon.records.conversion import ConvArguments

Start = Literal["equal to the bit", "equal up to rounding", "not equal"]
"""What a new layer computes, compared with its convolution."""


@dataclass(frozen=True)
class TargetOffer:
    """One target for one convolution. ``reason`` says why it does not fit, None if it does.

    ``parameters`` and ``macs`` are what the layer costs more than the convolution while it is trained, for all calls;
    ``folded_parameters`` and ``folded_macs`` the same after ``fold``, None if that depends on what was learnt.
    """

    target: str
    reason: str | None = None
    parameters: int | None = None
    macs: int | None = None
    folded_parameters: int | None = None
    folded_macs: int | None = None


@dataclass(frozen=True)
class SiteOffers:
    """One convolution, its own multiply-accumulates for all calls, and what every target would be there."""

    path: str
    arguments: ConvArguments | None
    macs: int | None
    offers: tuple[TargetOffer, ...]


@dataclass(frozen=True)
class TargetSummary:
    """A target over the whole model, for its convolutions that it fits: how many, and what they cost together."""

    target: str
    summary: str
    start: Start
    fits: int
    parameters: int
    macs: int
    folded_parameters: int | None
    folded_macs: int | None


@dataclass(frozen=True)
class TargetChoice:
    """All targets side by side. ``macs`` are those of all convolutions that have a figure."""

    IN_JSON: ClassVar = ("macs",)

    targets: tuple[TargetSummary, ...]
    sites: tuple[SiteOffers, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    schema: str = "saconv-surgeon/targets/1"

    @property
    def macs(self) -> int:
        """Of all convolutions before any conversion."""
        return sum(site.macs or 0 for site in self.sites)
