"""The energy that a model takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Energy:
    """Joules for one sample, the median over ``n`` windows of ``window_s`` seconds each, of what was not drawn at rest.

    ``source`` is the counter that was read: of a GPU (NVML) or of the processor's packages (RAPL). ``idle_w`` are watts at rest,
    measured before and after; ``w`` are watts at work, those at rest included.
    """

    source: str
    joules_per_sample: float
    w: float
    idle_w: float
    n: int
    window_s: float
    batch: int | None = None
