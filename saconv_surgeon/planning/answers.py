"""What is told of an answer: every layer with its offers and why it was chosen or not, and what other prices would bring."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from saconv_surgeon.planning.candidates import Offered
from saconv_surgeon.planning.choosing import Choice, choose
from saconv_surgeon.planning.plan_problem import Priced
from saconv_surgeon.planning.scores.baselines import is_whole
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.timed_promise import Answer
from saconv_surgeon.records.budgeted_plan import Candidate, CurvePoint, LayerOffers, Offer, Promise

POINTS = 12
"""Prices that the curve is solved for."""


def answer_untimed(priced: Priced, gains: Gains) -> Answer:
    """The best choice by the prices alone: nothing is measured, so what the budgets are about is only predicted."""
    chosen = choose(priced.problem([a.added for a in priced.allowances]), gains)
    promises = []
    for allowance in priced.allowances:
        figure = allowance.budget.figure
        added = sum(priced.load(figure, path, name) or 0.0 for path, name in chosen.items())
        value = allowance.original + added
        promises.append(Promise(allowance.budget, allowance.in_units(value), None, kept=value <= allowance.limit))
    return Answer(chosen, tuple(promises), 0, priced.calibrations)


def layers_of(offered: Offered, gains: Gains, priced: Priced, chosen: Choice) -> tuple[LayerOffers, ...]:
    """Every layer that could be converted, in the order of the plan."""
    left = [a.added - t for a, t in zip(priced.allowances, _taken(priced, chosen), strict=True)]
    return tuple(
        _layer(site.path, offered.candidates[site.path], gains, priced, chosen, left)
        for site in offered.plan.sites
        if site.path in offered.candidates
    )


def _layer(
    path: str, own: tuple[Candidate, ...], gains: Gains, priced: Priced, chosen: Choice, left: list[float]
) -> LayerOffers:
    beside = {c.name: gains.beside(chosen, path, c.name) for c in own}
    offers = tuple(Offer(c, priced.prices[path][c.name], beside[c.name], gains.why_unknown(path, c.name)) for c in own)
    name = chosen.get(path)
    return LayerOffers(path, offers, name, _why(path, name, offers, beside, priced, left))


def _why(
    path: str,
    name: str | None,
    offers: tuple[Offer, ...],
    beside: Mapping[str, float | None],
    priced: Priced,
    left: list[float],
) -> str:
    if name is not None:
        better = [n for n, gain in beside.items() if (gain or 0.0) > (beside[name] or 0.0)]
        return f"{better[-1]} would gain more and is too dear" if better else "gains most here"
    known = {n: gain for n, gain in beside.items() if gain is not None}
    if not known:
        reasons = dict.fromkeys(offer.why_no_gain or "its gain is not known" for offer in offers)
        return next(iter(reasons))
    if max(known.values()) <= 0:
        return "promises nothing beside what was chosen"
    loads = [
        [priced.load(a.budget.figure, path, n) for a in priced.allowances] for n, gain in known.items() if gain > 0
    ]
    if all(any(load is None for load in own) for own in loads):
        return "its price is not known"
    fits = any(all(load is not None and load <= most for load, most in zip(own, left, strict=True)) for own in loads)
    return "gains next to nothing beside what was chosen" if fits else "others gain more for the price"


def _taken(priced: Priced, chosen: Choice) -> list[float]:
    return [sum(priced.load(a.budget.figure, p, n) or 0.0 for p, n in chosen.items()) for a in priced.allowances]


def everything_of(offered: Offered, gains: Gains) -> float | None:
    """What converting every layer whole promises; None if no whole layer has a gain."""
    whole = {path: [c.name for c in own if is_whole(c)] for path, own in offered.candidates.items()}
    chosen = {path: names[0] for path, names in whole.items() if names and gains.beside({}, path, names[0]) is not None}
    return gains.of(chosen) if chosen else None


def curve_of(priced: Priced, gains: Gains, chosen: Choice) -> tuple[CurvePoint, ...]:
    """The best choices for prices from nothing to everything, as ratios of the first budget's figure; by prices alone."""
    allowance = priced.allowances[0]
    alone = Priced(priced.prices, (allowance,), priced.calibrations)
    problem = alone.problem([0.0])
    loads = problem.loads
    most = sum(max(0.0, *(load[0] for load in own.values())) for own in loads.values())
    if most <= 0 or allowance.original <= 0:
        return ()
    choices: list[Choice] = [{}]
    for i in range(1, POINTS + 1):
        choices.append(choose(alone.problem([most * (i / POINTS) ** 2]), gains, choices[-1:], swaps=False))
    if len(priced.allowances) == 1:
        choices.append(chosen)
    points = {
        CurvePoint(
            (allowance.original + sum(loads[p][n][0] for p, n in each.items())) / allowance.original,
            gains.of(each) if each else 0.0,
            len(each),
        )
        for each in choices
    }
    return _rising(sorted(points, key=lambda point: (point.price, -point.gain)))


def _rising(points: list[CurvePoint]) -> tuple[CurvePoint, ...]:
    """Without those that cost more and gain no more than the one before."""
    kept = points[:1]
    for _, point in pairwise(points):
        if point.gain > kept[-1].gain:
            kept.append(point)
    return tuple(kept)
