"""The prices that budgets need: from a file of an earlier plan, counted, or measured and calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.asked import Asked
from saconv_surgeon.planning.budgets import TIMED
from saconv_surgeon.planning.figures import PRICES, Measuring, wanted_for
from saconv_surgeon.planning.plan_problem import Priced
from saconv_surgeon.planning.prices import counted_price, price_candidates
from saconv_surgeon.planning.saved_scores import SavedScores
from saconv_surgeon.planning.variants import Variants
from saconv_surgeon.planning.whole_models import WholeTimer
from saconv_surgeon.records.budgeted_plan import Price
from saconv_surgeon.records.progress import OnStep

LAYERS_SHARE = 5.0
"""How much longer than one model all layers and candidates together are timed."""


def priced_for(
    asked: Asked, variants: Variants, measuring: Measuring, saved: SavedScores, on_step: OnStep
) -> tuple[Priced, SavedScores]:
    """Prices from the file if they have every figure that the budgets are about; otherwise measured."""
    figures = {budget.figure for budget in asked.budgets}
    timed = sorted(figures & set(TIMED))
    if saved.prices is not None and _knows(saved, figures, timed):
        measuring.originals |= {figure: float(saved.extra["originals"][figure]) for figure in timed}
        priced = Priced.of(saved.prices, asked.budgets, measuring)
        return priced.with_factors(saved.extra["factors"], saved.extra["offsets"]), saved
    if asked.timing is None and timed:
        raise UsageError(
            f"{asked.budgets[0].text} is about time, and time is not to be measured; leave --no-latency out, or give --scores "
            "FILE with the prices of an earlier plan"
        )
    if asked.timing is None:
        sites = {site.path: site for site in variants.offered.plan.sites}
        own = variants.offered.candidates
        counted = {path: {c.name: counted_price(sites[path], c) for c in offers} for path, offers in own.items()}
        return Priced.of(counted, asked.budgets, measuring), saved
    whole = WholeTimer(measuring, asked.budgets)
    for figure in timed:
        measuring.original(figure)
    seconds = LAYERS_SHARE * asked.timing.budget_s
    wanted = wanted_for(asked.budgets)
    prices = price_candidates(variants, wanted, budget_s=seconds, on_whole=whole, on_step=on_step)
    priced = Priced.of(prices, asked.budgets, measuring).calibrated(whole.timings)
    extra = {
        "originals": {figure: measuring.original(figure) for figure in timed},
        "factors": {figure: dict(c.factors) for figure, c in priced.calibrations.items()},
        "offsets": {figure: dict(c.offsets) for figure, c in priced.calibrations.items()},
    }
    return priced, replace(saved, prices=prices, extra=extra)


def _knows(saved: SavedScores, figures: Iterable[str], timed: Sequence[str]) -> bool:
    prices: Mapping[str, Mapping[str, Price]] = saved.prices or {}
    known = all(figure in saved.extra.get("originals", {}) for figure in timed)
    return known and all(
        any(PRICES[figure](price) is not None for own in prices.values() for price in own.values())
        for figure in figures
    )
