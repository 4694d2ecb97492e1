"""The figures that budgets are about: what a layer's price says of them, and how a whole model is measured or counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.budgets import TIMED
from saconv_surgeon.planning.paired_clock import PairedClock
from saconv_surgeon.planning.prices import Wanted
from saconv_surgeon.planning.variants import Variants
from saconv_surgeon.profiling.counting.count import count
from saconv_surgeon.profiling.profile import device_of
from saconv_surgeon.profiling.timing.training_step import training_memory
from saconv_surgeon.records import LatencyRatio, Timing
from saconv_surgeon.records.budgeted_plan import Budget, Candidate, Price

BYTES = 4
"""Of a parameter, for the estimate of memory that is then measured."""

PRICES: Mapping[str, Callable[[Price], float | None]] = {
    "latency": lambda price: price.latency_s,
    "trained_latency": lambda price: price.trained_latency_s,
    "training": lambda price: price.step_s,
    "macs": lambda price: price.macs,
    "parameters": lambda price: price.parameters,
    "peak_memory_bytes": lambda price: BYTES * price.parameters,
    "training_memory": lambda price: (
        None if price.saved_bytes is None else price.saved_bytes + 2 * BYTES * price.parameters
    ),
}
"""What one candidate adds to each figure; None if that is not known."""


def wanted_for(budgets: Iterable[Budget]) -> Wanted:
    """What has to be timed of each layer for these budgets."""
    figures = {budget.figure for budget in budgets}
    return Wanted("trained_latency" in figures, "training" in figures, "training_memory" in figures)


def loads_of(figure: str, prices: Mapping[str, Mapping[str, Price]]) -> dict[str, dict[str, float]]:
    """By path and name, what each candidate adds to ``figure``, without those of which that is not known."""
    found = {path: {name: PRICES[figure](price) for name, price in names.items()} for path, names in prices.items()}
    return {path: {name: load for name, load in names.items() if load is not None} for path, names in found.items()}


@dataclass(frozen=True)
class Found:
    """A figure of a whole model, and for one that is timed its ratio to the original."""

    value: float
    ratio: LatencyRatio | None = None

    @property
    def high(self) -> float:
        """The upper end of the interval of what is timed."""
        return self.value if self.ratio is None else self.value * self.ratio.high / self.ratio.median


@dataclass
class Measuring:
    """Measures whole models: the original once, variants when asked."""

    variants: Variants
    clock: PairedClock
    originals: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, variants: Variants) -> Measuring:
        """With a clock of its own."""
        return cls(variants, PairedClock(variants.model, variants.inputs))

    def original(self, figure: str) -> float:
        """A figure of the original model; of a time, always the same, so that everything is relative to it.

        Raises:
            ModelError: It could not be had.
        """
        if figure not in self.originals:
            model = self.variants.model
            self.originals[figure] = (
                self.clock.original_s(figure) if figure in TIMED else _counted(model, self.variants.inputs, figure)
            )
        return self.originals[figure]

    def variant(
        self, choices: Mapping[str, Candidate], limits: Mapping[str, float], draws: int = 0
    ) -> dict[str, Found]:
        """The figures named in ``limits`` of the model with ``choices``; a timing near its limit takes longer."""
        converted = self.variants.converted(choices)
        folded = self.variants.folding(converted).model if "latency" in limits else converted
        return {
            figure: self._found(folded if figure == "latency" else converted, figure, limit, draws)
            for figure, limit in limits.items()
        }

    def _found(self, model: nn.Module, figure: str, limit: float, draws: int) -> Found:
        if figure not in TIMED:
            return Found(_counted(model, self.variants.inputs, figure))
        most = limit / self.original(figure)
        near = lambda ratio: ratio.low < 1.02 * most and ratio.high > 0.96 * most  # noqa: E731 - one line
        ratio = self.clock.pairs(model, figure, near=near, draws=draws).ratio
        return Found(ratio.median * self.original(figure), ratio)


def _counted(model: nn.Module, inputs: Inputs, figure: str) -> float:
    if figure == "parameters":
        return float(sum(p.numel() for p in model.parameters()))
    value: int | None
    if figure == "training_memory":
        with torch.enable_grad():
            value = training_memory(model, inputs, device_of(model), Timing())[1]
    else:
        counts = count(model, inputs)
        value = counts.macs if figure == "macs" else counts.peak_live_bytes
    if value is None:
        raise ModelError(f"{figure} of this model could not be had; leave the budget for it out")
    return float(value)
