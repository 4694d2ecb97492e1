"""What two series of alternating measurements say about each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from saconv_surgeon.records import ENOUGH, LatencyRatio, Verdict

SMALLEST_DIFFERENCE = 0.02
"""A ratio within two per cent of 1 is called the same, however quiet the machine: the addresses of the weights of two equal
models make that much of a difference."""
WIDEST = 0.10
"""If the interval or the noise reaches further than this from its middle, nothing is called the same."""
MARGIN = 1.25
RESAMPLES = 2000
CRITICAL = {3: 8.610, 4: 5.959, 5: 5.041, 6: 4.587, 7: 4.318, 8: 4.140, 9: 4.015}
"""By the number of pairs n, Student's t for 2 (n - 1) degrees of freedom, which one of a thousand equal models exceeds."""


def ratio_of(a: Sequence[float], b: Sequence[float], seed: int = 0) -> LatencyRatio:
    """The paired ratio b/a, with a 95 % bootstrap interval of its median, and a verdict.

    Fewer than ``ENOUGH`` pairs have no such interval: ``low`` and ``high`` are then the smallest and the largest ratio.
    The noise floor is the distance from 1 that the interval of a against itself reaches: every sample paired with the next,
    so that the baseline is timed against itself in the same run, as often and in the same change of order.
    """
    before, after = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    ratios = after / before
    few = len(ratios) < ENOUGH
    low, high = _range(ratios) if few else _interval(ratios, seed)
    against_itself = before[1:] / before[:-1]
    noise_low, noise_high = _range(against_itself) if few else _interval(against_itself, seed)
    floor = max(abs(noise_low - 1), abs(noise_high - 1))
    median = float(np.median(ratios))
    return LatencyRatio(
        median=median,
        low=low,
        high=high,
        verdict=verdict_of_few(before, after, floor) if few else verdict(median, low, high, floor),
        n=len(ratios),
        noise_floor=floor,
        noise_low=noise_low,
        noise_high=noise_high,
    )


def verdict(median: float, low: float, high: float, floor: float) -> Verdict:
    """``slower`` and ``faster`` need an interval clear of 1 and a median beyond the noise floor; ``same`` a median within it.

    Beyond it by a quarter, since two intervals that just touch are no evidence: of equal models under any noise, one in a
    hundred or fewer are then called different.
    """
    floor = max(MARGIN * floor, SMALLEST_DIFFERENCE)
    if low > 1 and median > 1 + floor:
        return "slower"
    if high < 1 and median < 1 - floor:
        return "faster"
    quiet = floor <= WIDEST and low >= 1 - WIDEST and high <= 1 + WIDEST
    return "same" if quiet and abs(median - 1) <= floor else "inconclusive"


def verdict_of_few(a: np.ndarray, b: np.ndarray, floor: float) -> Verdict:
    """Of too few pairs for an interval: a difference only if nothing speaks against one.

    Every single pair has to show it beyond the widest noise, their median a quarter beyond the noise floor, and the two series
    have to lie further apart than those of equal models: by a t-test of the logarithms at one in a thousand. Fewer than three
    pairs say nothing.
    """
    n, ratios = len(a), b / a
    if n not in CRITICAL:
        return "inconclusive"
    pooled = math.sqrt((np.log(a).var(ddof=1) + np.log(b).var(ddof=1)) / n)
    apart = float(np.log(b).mean() - np.log(a).mean())
    median, floor = float(np.median(ratios)), MARGIN * floor
    if ratios.min() > 1 + WIDEST and median > 1 + floor and apart > CRITICAL[n] * pooled:
        return "slower"
    if ratios.max() < 1 - WIDEST and median < 1 - floor and -apart > CRITICAL[n] * pooled:
        return "faster"
    return "inconclusive"


def _range(values: np.ndarray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (1.0, 1.0)


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)
