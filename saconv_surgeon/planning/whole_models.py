"""Whole models that are timed for the calibration."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.planning.budgets import TIMED
from saconv_surgeon.planning.choosing import Choice
from saconv_surgeon.planning.figures import Found, Measuring
from saconv_surgeon.planning.price_calibration import WholeTiming
from saconv_surgeon.planning.prices import WholeModel
from saconv_surgeon.records.budgeted_plan import Budget


class WholeTimer:
    """Times models that have one candidate everywhere, as they come by, for the calibration."""

    def __init__(self, measuring: Measuring, budgets: Sequence[Budget]) -> None:
        self.measuring = measuring
        self.figures = [f for f in dict.fromkeys(budget.figure for budget in budgets) if f in TIMED]
        self.timings: dict[str, list[WholeTiming]] = {figure: [] for figure in self.figures}

    def __call__(self, whole: WholeModel) -> None:
        """Times one of them."""
        for figure in self.figures:
            model = whole.folded if figure == "latency" else whole.converted
            assert model is not None
            ratio = self.measuring.clock.pairs(model, figure, draws=1).ratio
            original = self.measuring.original(figure)
            self.timings[figure].append(whole_timing(whole.names, Found(original * ratio.median, ratio), original))


def whole_timing(chosen: Choice, found: Found, original_s: float) -> WholeTiming:
    """What a timing of a whole model says."""
    assert found.ratio is not None
    spread = (found.ratio.high - found.ratio.low) / 4 * original_s
    return WholeTiming(dict(chosen), found.value - original_s, spread)
