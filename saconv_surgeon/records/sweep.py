"""What a sweep over plans, recipes and seeds found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from saconv_surgeon.records.profile import LatencyRatio

UNTOUCHED = "untouched"
"""The name of the model that nothing was done to, with which plans are compared."""
Direction = Literal["max", "min"]


@dataclass(frozen=True)
class SweepTrial:
    """One training. ``value`` is the metric that is compared; None if it failed, and ``error`` says how."""

    plan: str
    recipe: str
    seed: int
    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class SweepRow:
    """One plan with one recipe, over the seeds.

    ``gain`` is the mean difference to the untouched model with the same recipe, paired by seed, and ``half_width`` half of its
    95 % interval (Student's t); None if there is nothing to compare with, or a single seed. ``latency`` is that of the folded
    model relative to the original. ``on_front`` says that no other row is both as fast and as good, and better in one of the two.
    """

    plan: str
    recipe: str
    n: int
    failed: int
    mean: float | None
    gain: float | None
    half_width: float | None
    latency: LatencyRatio | None
    on_front: bool

    @property
    def shown(self) -> bool:
        """Whether the interval of the gain excludes zero."""
        return self.gain is not None and self.half_width is not None and abs(self.gain) > self.half_width


@dataclass(frozen=True)
class Sweep:
    """``metric`` is the name of what is compared, and ``mode`` whether more or less of it is better."""

    metric: str
    mode: Direction
    rows: tuple[SweepRow, ...]
    trials: tuple[SweepTrial, ...]
    schema: str = "saconv-surgeon/sweep/1"
