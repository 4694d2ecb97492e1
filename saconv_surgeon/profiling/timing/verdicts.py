"""What two series of alternating measurements say about each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saconv_surgeon.records import LatencyRatio, Verdict

SMALLEST_DIFFERENCE = 0.02
"""A ratio within two per cent of 1 is called the same, however quiet the machine: the addresses of the weights of two equal
models make that much of a difference."""
WIDEST = 0.10
"""If the interval or the noise reaches further than this from its middle, nothing is called the same."""
MARGIN = 1.25
RESAMPLES = 2000
ENOUGH = 10
"""Pairs for an interval that means something: with five per cent noise, three make one in seven equal models look different."""


def ratio_of(a: Sequence[float], b: Sequence[float], seed: int = 0) -> LatencyRatio:
    """The paired ratio b/a, with a 95 % bootstrap interval of its median, and a verdict.

    The noise floor is the distance from 1 that the interval of a against itself reaches: every sample paired with the next,
    so that the baseline is timed against itself in the same run, as often and in the same change of order.
    """
    ratios = np.asarray(b) / np.asarray(a)
    low, high = _interval(ratios, seed)
    noise_low, noise_high = _interval(np.asarray(a[1:]) / np.asarray(a[:-1]), seed)
    floor = max(abs(noise_low - 1), abs(noise_high - 1))
    median = float(np.median(ratios))
    return LatencyRatio(
        median=median,
        low=low,
        high=high,
        verdict=verdict(median, low, high, floor) if len(ratios) >= ENOUGH else verdict_of_few(ratios),
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


def verdict_of_few(ratios: np.ndarray) -> Verdict:
    """Of too few pairs for an interval: a difference only if every single one shows more than the widest noise."""
    if ratios.min() > 1 + WIDEST:
        return "slower"
    if ratios.max() < 1 - WIDEST:
        return "faster"
    return "inconclusive"


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    draws = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)
