"""Differences paired by seed, with 95 % intervals of Student's t."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """The mean of ``n`` differences; the interval is mean ± ``half_width``, which is None for a single one."""

    mean: float
    half_width: float | None
    n: int

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero."""
        return self.half_width is not None and abs(self.mean) > self.half_width

    def times(self, factor: float) -> Difference:
        """In another unit."""
        return Difference(factor * self.mean, None if self.half_width is None else factor * self.half_width, self.n)

    def text(self, digits: int = 1) -> str:
        """As in ``+3.4 ± 0.7``, with a true minus sign."""
        mean = f"{self.mean:+.{digits}f}".replace("-", "−")
        return mean if self.half_width is None else f"{mean} ± {self.half_width:.{digits}f}"


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """Of ``b`` − ``a``, over the seeds that both have; None if there is none."""
    each = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
    if not each:
        return None
    mean = statistics.fmean(each)
    if len(each) == 1:
        return Difference(mean, None, 1)
    quantile = float(student.ppf(0.5 + CONFIDENCE / 2, len(each) - 1))
    return Difference(mean, quantile * statistics.stdev(each) / sqrt(len(each)), len(each))
