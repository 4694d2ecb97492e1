"""The knapsack of one plan: prices, what the budgets leave to conversion, and how layers add up to the whole model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from saconv_surgeon.planning.budgets import TIMED, Allowance, allowances
from saconv_surgeon.planning.choosing import Problem
from saconv_surgeon.planning.figures import Measuring, loads_of
from saconv_surgeon.planning.price_calibration import Calibration, WholeTiming
from saconv_surgeon.records.budgeted_plan import Budget, Price


@dataclass(frozen=True)
class Priced:
    """Prices by path and name, the budgets, and how they relate: what each figure of the original is, and may become."""

    prices: Mapping[str, Mapping[str, Price]]
    allowances: tuple[Allowance, ...]
    calibrations: Mapping[str, Calibration]

    @classmethod
    def of(cls, prices: Mapping[str, Mapping[str, Price]], budgets: Sequence[Budget], measuring: Measuring) -> Priced:
        """Without any whole model that was timed.

        Raises:
            UsageError: The original is above a budget.
            ModelError: A figure of it could not be had.
        """
        originals = {budget.figure: measuring.original(budget.figure) for budget in budgets}
        timed = {figure: own for figure, own in originals.items() if figure in TIMED}
        calibrations = {figure: Calibration(loads_of(figure, prices), own) for figure, own in timed.items()}
        return cls(prices, allowances(budgets, originals), calibrations)

    def calibrated(self, timings: Mapping[str, Iterable[WholeTiming]]) -> Priced:
        """With these timings of whole models, by figure."""
        fitted = {f: c.with_timings(timings.get(f, ())) for f, c in self.calibrations.items()}
        return replace(self, calibrations=fitted)

    def with_factors(
        self, factors: Mapping[str, Mapping[str, float]], offsets: Mapping[str, Mapping[str, float]]
    ) -> Priced:
        """With the calibration of an earlier run."""
        fitted = {
            figure: replace(c, factors=dict(factors.get(figure, {})), offsets=dict(offsets.get(figure, {})))
            for figure, c in self.calibrations.items()
        }
        return replace(self, calibrations=fitted)

    def load(self, figure: str, path: str, name: str) -> float | None:
        """What a candidate adds to a figure of the whole model; None if that is not known."""
        if figure in self.calibrations:
            calibration = self.calibrations[figure]
            return calibration.price(path, name) if name in calibration.prices[path] else None
        return loads_of(figure, {path: {name: self.prices[path][name]}})[path].get(name)

    def problem(self, capacities: Sequence[float]) -> Problem:
        """The knapsack: candidates of which a figure is not known are left out."""
        figures = [a.budget.figure for a in self.allowances]
        loads: dict[str, dict[str, tuple[float, ...]]] = {}
        for path, names in self.prices.items():
            for name in names:
                own = [self.load(figure, path, name) for figure in figures]
                if all(load is not None for load in own):
                    loads.setdefault(path, {})[name] = tuple(load for load in own if load is not None)
        return Problem(loads, tuple(capacities))
