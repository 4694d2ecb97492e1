"""Gain against price: the best choice for a dozen budgets, by the prices alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from saconv_surgeon.planning.choosing import Choice, Gains, Problem, choose
from saconv_surgeon.planning.timed_promise import Priced
from saconv_surgeon.records.budgeted_plan import CurvePoint

POINTS = 12


def curve(priced: Priced, gains: Gains, chosen: Choice | None = None, points: int = POINTS) -> tuple[CurvePoint, ...]:
    """The best gain for each of ``points`` limits of the first budget's figure, from nothing to everything that gains something.

    The other budgets hold as they are. ``price`` is the ratio to the original that the prices predict, which is not timed; where
    ``chosen`` is a better choice than was found, it counts. Both price and gain grow from point to point; budgets for which there
    is nothing better than for smaller ones have no point of their own.
    """
    if not priced.allowances:
        return ()
    first, *others = priced.allowances
    problem = priced.problem([float("inf"), *(allowance.added for allowance in others)])
    best = choose(_without_first(problem), gains, swaps=False)
    most = float(problem.takes(best)[0]) if best else 0.0
    found: list[Choice] = [best, *([chosen] if chosen and _known(problem, chosen) else [])]
    for capacity in _spread(max(most, 0.0), points - 1):
        limited = replace(problem, capacities=(capacity, *problem.capacities[1:]))
        starts = [choice for choice in found if choice]
        found.append(choose(limited, gains, starts, swaps=False))
    own = first.original
    at = [(float(problem.takes(c)[0]) if c else 0.0, gains.of(c) if c else 0.0, len(c)) for c in (*found, {})]
    rising: list[CurvePoint] = []
    for added, gain, layers in sorted(at, key=lambda point: (point[0], -point[1])):
        if not rising or gain > rising[-1].gain:
            rising.append(CurvePoint((own + added) / own if own else 1.0, gain, layers))
    return tuple(rising)


def _without_first(problem: Problem) -> Problem:
    loads = {path: {name: own[1:] for name, own in names.items()} for path, names in problem.loads.items()}
    return Problem(loads, problem.capacities[1:])


def _known(problem: Problem, chosen: Choice) -> bool:
    return all(name in problem.loads.get(path, {}) for path, name in chosen.items())


def _spread(most: float, n: int) -> Sequence[float]:
    """``n`` capacities below ``most``, denser at the low end, the first of them 0."""
    return [most * (i / n) ** 1.5 for i in range(n)]
