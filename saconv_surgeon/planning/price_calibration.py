"""The sum of layer prices against whole models: layers timed alone find their data in the cache, and wait for nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from scipy.optimize import lsq_linear

from saconv_surgeon.planning.choosing import Choice

FACTOR_SPREAD = 0.5
"""How far from 1 the factor of a kind of candidate is expected to be, before a whole model was timed."""
OFFSET_SPREAD = 0.3
"""How far from 0 what every layer of a kind takes more, as a share of the mean price of the kind."""
LEAST_SPREAD = 0.01
"""The same at least, as a share of the original model for all layers together."""

Seconds = Mapping[str, Mapping[str, float]]
"""By path and name of the candidate, the price of one layer."""


@dataclass(frozen=True)
class WholeTiming:
    """What a choice was measured to add to the whole model, in seconds, and how far that may be off."""

    chosen: Choice
    added_s: float
    spread_s: float


@dataclass(frozen=True)
class Calibration:
    """A factor and an offset for every kind of candidate, so that the sum over layers is what whole models take.

    ``prices`` are those of layers alone, ``original_s`` is the whole original. Fitted by least squares with factors that are not
    negative; what no timing says anything about stays near 1 and 0.
    """

    prices: Seconds
    original_s: float
    timings: tuple[WholeTiming, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)

    def with_timings(self, timings: Iterable[WholeTiming]) -> Self:
        """The same, fitted to these timings too."""
        return replace(self, timings=(*self.timings, *timings)).fitted()

    def fitted(self) -> Self:
        """With the factors and offsets that explain the timings."""
        kinds = sorted({name for names in self.prices.values() for name in names})
        if not kinds or not self.timings:
            return self
        usual = {kind: self._usual(kind) for kind in kinds}
        rows, wanted = [], []
        for timing in self.timings:
            alone = dict.fromkeys(kinds, 0.0)
            counts = dict.fromkeys(kinds, 0.0)
            for path, name in timing.chosen.items():
                alone[name] += self.prices[path][name]
                counts[name] += 1
            spread = max(timing.spread_s, 1e-3 * self.original_s)
            rows.append([*(alone[k] / spread for k in kinds), *(counts[k] * usual[k] / spread for k in kinds)])
            wanted.append(timing.added_s / spread)
        eye = np.eye(2 * len(kinds))
        rows += [row / FACTOR_SPREAD for row in eye[: len(kinds)]] + list(eye[len(kinds) :])
        wanted += [1 / FACTOR_SPREAD] * len(kinds) + [0.0] * len(kinds)
        low = np.array([0.0] * len(kinds) + [-np.inf] * len(kinds))
        found = lsq_linear(np.array(rows), np.array(wanted), (low, np.full(2 * len(kinds), np.inf))).x
        factors, offsets = found[: len(kinds)], found[len(kinds) :]
        return replace(
            self,
            factors=dict(zip(kinds, map(float, factors), strict=True)),
            offsets={k: float(offset) * usual[k] for k, offset in zip(kinds, offsets, strict=True)},
        )

    def _usual(self, kind: str) -> float:
        """The spread of the offset of one kind, in seconds for one layer."""
        own = [abs(names[kind]) for names in self.prices.values() if kind in names]
        return max(OFFSET_SPREAD * float(np.mean(own)), LEAST_SPREAD * self.original_s / len(own), 1e-12)

    def price(self, path: str, name: str) -> float:
        """What a candidate adds to the whole model, in seconds."""
        return self.prices[path][name] * self.factors.get(name, 1.0) + self.offsets.get(name, 0.0)

    def added(self, chosen: Choice) -> float:
        """What a choice adds to the whole model, in seconds."""
        return sum(self.price(path, name) for path, name in chosen.items())
