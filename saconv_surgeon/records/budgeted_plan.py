"""What ``plan`` knows: the candidates of every layer with their prices and gains, what was chosen, and the promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from saconv_surgeon.records.conversion import Plan
from saconv_surgeon.records.profile import LatencyRatio

ScoreName = Literal["promise", "probe", "depth", "random", "stages"]
SCORES_SCHEMA = "saconv-surgeon/scores/1"


@dataclass(frozen=True)
class Candidate:
    """What a layer may become. ``name`` is unique within a layer: ``"contexts"``, ``"branches"``, ``"all"``, ``"aws"`` …"""

    name: str
    target: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Price:
    """What one candidate of one layer adds to the model, for the inputs as given; all of its calls together.

    ``latency_s`` is of the folded layer against the convolution that it replaces, ``trained_latency_s`` of the layer as it is
    trained, ``step_s`` of forward and backward. ``saved_bytes`` is what autograd keeps from forward to backward. None for what
    could not be had.
    """

    parameters: int
    macs: int
    latency_s: float | None = None
    trained_latency_s: float | None = None
    step_s: float | None = None
    saved_bytes: int | None = None


@dataclass(frozen=True)
class Offer:
    """One candidate of one layer, with its price and what it promises.

    ``gain`` is what a score expects of this candidate beside the others that were chosen, in the units of the score; None if
    ``why_no_gain`` says why there is none.
    """

    candidate: Candidate
    price: Price
    gain: float | None = None
    why_no_gain: str | None = None


@dataclass(frozen=True)
class LayerOffers:
    """The candidates of one layer. ``chosen`` is the name of one, or None for the plain convolution; ``why`` says why."""

    path: str
    offers: tuple[Offer, ...]
    chosen: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Budget:
    """``figure`` must stay below ``limit``: a ratio to the original model if ``kind`` is ``"ratio"``, an increase if
    ``"increase"`` (``parameters<+2M``), or a value. ``text`` is what the user wrote.
    """

    text: str
    figure: str
    limit: float
    kind: Literal["ratio", "increase", "value"]


@dataclass(frozen=True)
class Promise:
    """A budget against what the chosen plan was measured, or counted, to need.

    ``found`` is in the units of the budget; ``ratio`` is the paired timing, if the figure is a time.
    ``predicted`` is what the sum of the prices said. ``kept`` is whether ``found`` (of a timed ratio, the upper end of its
    interval) is within the limit, or at most 3 % above it.
    """

    budget: Budget
    predicted: float | None
    found: float | None
    kept: bool
    ratio: LatencyRatio | None = None


@dataclass(frozen=True)
class CurvePoint:
    """The best choice for one price: ``price`` as a ratio of the first budget's figure, ``gain`` of all that is chosen."""

    price: float
    gain: float
    layers: int


@dataclass(frozen=True)
class BudgetedPlan:
    """Which layers to convert, and to what, for a budget, with everything that led to it.

    ``gain`` is what all choices together promise, in ``unit``; ``everything`` what converting every layer whole would. None if
    the score does not know. ``curve`` has the best choices for other prices, of ``curve_figure``. ``seconds`` says how long each
    step took. ``notes`` are sentences about what could not be had.
    """

    plan: Plan
    score: ScoreName
    unit: str
    budgets: tuple[Budget, ...]
    layers: tuple[LayerOffers, ...]
    gain: float | None = None
    everything: float | None = None
    promises: tuple[Promise, ...] = ()
    rounds: int = 0
    curve: tuple[CurvePoint, ...] = ()
    curve_figure: str = "latency"
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether every budget is kept."""
        return all(promise.kept for promise in self.promises)

    @property
    def chosen(self) -> Mapping[str, Offer]:
        """What is converted, and to what, by the paths of the layers."""
        picked = {layer.path: [o for o in layer.offers if o.candidate.name == layer.chosen] for layer in self.layers}
        return {path: offers[0] for path, offers in picked.items() if offers}
