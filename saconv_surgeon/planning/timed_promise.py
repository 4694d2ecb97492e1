"""Solve, time the plan, solve again until what was promised holds, and until little of the budget is left over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.budgets import TIMED, TOLERATED, Allowance, written
from saconv_surgeon.planning.choosing import Choice, choose
from saconv_surgeon.planning.figures import Found, Measuring
from saconv_surgeon.planning.knapsack import Item, nearest
from saconv_surgeon.planning.plan_problem import Priced
from saconv_surgeon.planning.price_calibration import Calibration
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.whole_models import whole_timing
from saconv_surgeon.records.budgeted_plan import Promise
from saconv_surgeon.records.progress import OnStep, silent

MOST_ROUNDS = 6
MOST_TIGHTENINGS = 40
"""Solutions that were measured before and did not hold."""
USED = 0.97
"""A time that reaches so much of its limit leaves nothing worth another round."""
SURE = 1.005
"""The upper end of the interval may be so many times the limit while there are rounds left: another process differs by more."""
STRICT_ROUNDS = 3
"""After so many rounds, what is within the tolerance is enough."""
MARGIN = 0.015
"""How far below a limit the next plan is aimed at most, for the width of the interval."""
LARGEST_CUT = 0.5
"""What is left of a prediction at least when a plan did not hold, so that one bad timing does not take everything out."""
STEP = 0.002
"""By how much a limit moves at least, as a share of the original."""


@dataclass(frozen=True)
class Answer:
    """What was chosen, by path the name of the candidate; what it was promised and found to need; and how often it was timed.

    ``calibrations`` are those of the figures that are timed, with all whole models that were.
    """

    chosen: Mapping[str, str]
    promises: tuple[Promise, ...]
    rounds: int
    calibrations: Mapping[str, Calibration]

    @property
    def kept(self) -> bool:
        """Whether every promise is."""
        return all(promise.kept for promise in self.promises)


def solve_promised(
    priced: Priced, gains: Gains, measuring: Measuring, *, rounds: int = MOST_ROUNDS, on_step: OnStep = silent
) -> Answer:
    """The choice that gains most within the budgets, as measured on the whole model.

    What no round could keep is said: the choice that came nearest then has a promise that is not kept. If nothing gains anything,
    nothing is chosen.

    Raises:
        UsageError: Not even one layer can be converted within the budgets; says what the cheapest choice needs.
    """
    return _Rounds(priced, gains, measuring, on_step).answer(rounds)


@dataclass(frozen=True)
class _Outcome:
    chosen: dict[str, str]
    found: tuple[Found, ...]
    predicted: tuple[float, ...]
    gain: float
    excess: float
    """How far the upper ends exceed the limits, as a factor; at most 1 if none does."""


class _Rounds:
    def __init__(self, priced: Priced, gains: Gains, measuring: Measuring, on_step: OnStep) -> None:
        self.priced, self.gains, self.measuring, self.on_step = priced, gains, measuring, on_step
        self.allowances = priced.allowances
        self.capacities = [allowance.added for allowance in self.allowances]
        self.tried: dict[frozenset[tuple[str, str]], _Outcome] = {}

    def answer(self, rounds: int) -> Answer:
        best: _Outcome | None = None
        for _ in range(rounds + MOST_TIGHTENINGS):
            chosen = self._solved(() if best is None else (best.chosen,))
            if not chosen:
                break
            known = self.tried.get(frozenset(chosen.items()))
            if known is not None and known.excess <= self._enough:
                break  # nothing more fits
            if known is not None:
                self._tighten(known)
                continue
            if len(self.tried) == rounds:
                break
            self.on_step("timing the plan", len(self.tried) / rounds)
            outcome = self._measured(chosen)
            if outcome.excess <= self._enough and (best is None or outcome.gain > best.gain):
                best = outcome
            if outcome.excess <= self._enough and self._used_up(outcome):
                break
            self._adjust(outcome)
        if best is None and not self.tried:
            self._check_feasible()
            return Answer({}, self._of_nothing(), 0, self.priced.calibrations)
        given = best or self._cheapest() or self._nearest()
        return Answer(given.chosen, self._promises(given), len(self.tried), self.priced.calibrations)

    @property
    def _enough(self) -> float:
        """How far the upper end may be above a limit: on a machine that is never quiet, rounds do not make it narrower."""
        return SURE if len(self.tried) <= STRICT_ROUNDS else TOLERATED

    def _solved(self, starts: Iterable[Choice]) -> dict[str, str]:
        return choose(self.priced.problem(self.capacities), self.gains, starts)

    def _measured(self, chosen: dict[str, str]) -> _Outcome:
        predicted = tuple(self._predicted(k, chosen) for k in range(len(self.allowances)))
        limits = {a.budget.figure: a.limit for a in self.allowances}
        by_figure = self.measuring.variant(self.measuring.variants.choices(chosen), limits)
        found = tuple(by_figure[a.budget.figure] for a in self.allowances)
        timings = {
            figure: [whole_timing(chosen, one, self.measuring.original(figure))]
            for figure, one in by_figure.items()
            if one.ratio is not None
        }
        self.priced = self.priced.calibrated(timings)
        excess = max((_excess(a, f) for a, f in zip(self.allowances, found, strict=True)), default=0.0)
        outcome = _Outcome(chosen, found, predicted, self.gains.of(chosen), excess)
        self.tried[frozenset(chosen.items())] = outcome
        return outcome

    def _predicted(self, k: int, chosen: Choice) -> float:
        """What the prices say that a choice adds to the figure of a budget."""
        figure = self.allowances[k].budget.figure
        return sum(self.priced.load(figure, path, name) or 0.0 for path, name in chosen.items())

    def _adjust(self, outcome: _Outcome) -> None:
        """New capacities, in what the prices predict, so that what is measured reaches the limit and does not exceed it."""
        for k, (allowance, found) in enumerate(zip(self.allowances, outcome.found, strict=True)):
            predicted = self._predicted(k, outcome.chosen)
            measured = found.value - allowance.original
            aimed = allowance.added - min(found.high - found.value, MARGIN * allowance.limit)
            share = predicted / measured if measured > 0 and predicted > 0 else 1.0
            capacity = predicted + (aimed - measured) * min(max(share, 0.5), 2.0)
            self.capacities[k] = max(capacity, predicted * LARGEST_CUT) if predicted > 0 else capacity
        self._tighten(outcome)

    def _tighten(self, outcome: _Outcome) -> None:
        """Excludes a choice that did not hold."""
        for k, (allowance, found) in enumerate(zip(self.allowances, outcome.found, strict=True)):
            if _excess(allowance, found) > self._enough:
                step = STEP * allowance.original if allowance.budget.figure in TIMED else 0.0
                below = self._predicted(k, outcome.chosen) - max(step, 1e-9 * abs(allowance.original))
                self.capacities[k] = min(self.capacities[k] - step, below)

    def _used_up(self, outcome: _Outcome) -> bool:
        return any(
            found.value >= USED * allowance.limit
            for allowance, found in zip(self.allowances, outcome.found, strict=True)
            if allowance.budget.figure in TIMED
        )

    def _cheapest(self) -> _Outcome | None:
        """The single candidate with the lowest price, if that holds: what solving left over was too dear."""
        if any(outcome.excess <= TOLERATED for outcome in self.tried.values()):
            return None
        problem = self.priced.problem(self.capacities)
        limits = [allowance.limit for allowance in self.allowances]
        singles = {
            (path, name): max(load / limit for load, limit in zip(loads, limits, strict=True))
            for path, names in problem.loads.items()
            for name, loads in names.items()
            if (self.gains.beside({}, path, name) or 0.0) > 0
        }
        chosen = dict([min(singles, key=singles.__getitem__)])
        if frozenset(chosen.items()) in self.tried:
            return None
        outcome = self._measured(chosen)
        return outcome if outcome.excess <= TOLERATED else None

    def _nearest(self) -> _Outcome:
        """Of the choices that were measured and exceed a limit: what gains most within the tolerance, or exceeds least."""
        outcomes = list(self.tried.values())
        within = [outcome for outcome in outcomes if outcome.excess <= TOLERATED]
        if within:
            return max(within, key=lambda outcome: outcome.gain)
        return min(outcomes, key=lambda outcome: outcome.excess)

    def _promises(self, outcome: _Outcome) -> tuple[Promise, ...]:
        return tuple(
            Promise(
                budget=a.budget,
                predicted=a.in_units(a.original + predicted),
                found=a.in_units(found.value),
                kept=a.keeps(found.high),
                ratio=found.ratio,
            )
            for a, found, predicted in zip(self.allowances, outcome.found, outcome.predicted, strict=True)
        )

    def _of_nothing(self) -> tuple[Promise, ...]:
        """Of the original itself."""
        own = [a.in_units(a.original) for a in self.allowances]
        return tuple(Promise(a.budget, value, value, kept=True) for a, value in zip(self.allowances, own, strict=True))

    def _check_feasible(self) -> None:
        problem = self.priced.problem(self.capacities)
        items = [
            Item(path, name, 1.0, loads)
            for path, names in problem.loads.items()
            for name, loads in names.items()
            if (self.gains.beside({}, path, name) or 0.0) > 0
        ]
        if not items or any(problem.allows({item.path: item.name}) for item in items):
            return
        needed = nearest(items, problem.capacities)
        assert needed is not None
        asked = " with ".join(a.budget.text for a in self.allowances)
        wants = [
            _needed(allowance, need)
            for allowance, need in zip(self.allowances, needed, strict=True)
            if need > allowance.added
        ]
        raise UsageError(
            f"{asked}: nothing can be converted; the cheapest choice needs {' and '.join(wants)}; give a larger budget"
        )


def _excess(allowance: Allowance, found: Found) -> float:
    """By what factor the upper end is above the limit. What is counted is either within it or not."""
    if found.ratio is None:
        return 1.0 if found.value <= allowance.limit else max(found.value / max(allowance.limit, 1e-12), 2.0)
    return found.high / allowance.limit


def _needed(allowance: Allowance, added: float) -> str:
    figure = allowance.budget.figure
    if allowance.budget.kind == "ratio":
        return f"{figure} ×{_rounded_up(allowance.in_units(allowance.original + added))}"
    value = added if allowance.budget.kind == "increase" else allowance.original + added
    return f"{figure} {'+' if allowance.budget.kind == 'increase' else ''}{written(figure, value)}"


def _rounded_up(ratio: float) -> str:
    digits: Callable[[int], float] = lambda n: -(-ratio * 10**n // 1) / 10**n  # noqa: E731
    return f"{digits(3):.3f}".rstrip("0").rstrip(".") if ratio >= 1.001 else f"{ratio:.6f}"
