"""From the trials of a sweep to one row for each plan and recipe, and the front of gain against latency."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from saconv_surgeon.comparing.paired_difference import difference
from saconv_surgeon.records import LatencyRatio
from saconv_surgeon.records.sweep import UNTOUCHED, Direction, Sweep, SweepRow, SweepTrial


def summarised(
    trials: Sequence[SweepTrial], metric: str, mode: Direction, latencies: Mapping[str, LatencyRatio]
) -> Sweep:
    """The rows, in the order in which plans and recipes appear; ``latencies`` by plan, those that are known."""
    groups = dict.fromkeys((trial.plan, trial.recipe) for trial in trials)
    rows = [_row(plan, recipe, trials, latencies.get(plan)) for plan, recipe in groups]
    return Sweep(metric, mode, tuple(replace(row, on_front=_on_front(row, rows, mode)) for row in rows), tuple(trials))


def _row(plan: str, recipe: str, trials: Sequence[SweepTrial], latency: LatencyRatio | None) -> SweepRow:
    own = [trial for trial in trials if (trial.plan, trial.recipe) == (plan, recipe)]
    values = _by_seed(own)
    base = _by_seed([trial for trial in trials if (trial.plan, trial.recipe) == (UNTOUCHED, recipe)])
    against = None if plan == UNTOUCHED else difference(base, values)
    return SweepRow(
        plan,
        recipe,
        len(values),
        len(own) - len(values),
        statistics.fmean(values.values()) if values else None,
        None if against is None else against.mean,
        None if against is None else against.half_width,
        latency,
        on_front=False,
    )


def _by_seed(trials: Sequence[SweepTrial]) -> dict[int, float]:
    return {trial.seed: trial.value for trial in trials if trial.value is not None}


def _on_front(row: SweepRow, rows: Sequence[SweepRow], mode: Direction) -> bool:
    point = _point(row, mode)
    if point is None:
        return False
    others = [other for other in (_point(each, mode) for each in rows if each is not row) if other is not None]
    return not any(o[0] <= point[0] and o[1] >= point[1] and o != point for o in others)


def _point(row: SweepRow, mode: Direction) -> tuple[float, float] | None:
    """Latency, and how good it is; None if one is not known. The original is as fast as itself."""
    latency = 1.0 if row.plan == UNTOUCHED else None if row.latency is None else row.latency.median
    if latency is None or row.mean is None:
        return None
    return latency, row.mean if mode == "max" else -row.mean
