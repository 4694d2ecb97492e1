"""Gains of parts that overlap: what several promise together.

Each part has a step, which lowers the loss of sample n by f(n), to first order. The steps of the chosen parts, each multiplied
by some c ≥ 0, gain

    max over c of  Σ cₚ bₚ - ½ Σ cₚ c_q Mₚ_q,   b = mean(f),   Mₚₚ = curvature,   Mₚ_q = κₚ_q √(Mₚₚ M_qq),

with κ how far f of the two go up and down together from sample to sample: 1 for parts that do the same, of which the second then
adds nothing, 0 for those that have nothing to do with each other, whose gains add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.planning.scores.gains import UNKNOWN, read_record
from saconv_surgeon.planning.scores.held_out import Matrix, Vector
from saconv_surgeon.records.budgeted_plan import ScoreName
from saconv_surgeon.records.serialization import to_dict

UNIT = "nats"
Key = tuple[str, str]
MOST_KNOWN = 20_000
"""Joint gains that are kept, of some kilobytes each."""


@dataclass(frozen=True)
class Effect:
    """What the step of one part does. ``lowers`` is f of every sample or group of samples, ``curvature`` its M."""

    lowers: tuple[float, ...]
    curvature: float

    @classmethod
    def of(cls, f: Vector, squares: float) -> Self:
        """From :func:`~saconv_surgeon.planning.scores.held_out.cross_fitted`, to six digits."""
        return cls(tuple(float(f"{value:.6g}") for value in f), float(f"{squares + np.square(f).mean():.6g}"))


@dataclass(frozen=True)
class OverlappingGains:
    """See :class:`~saconv_surgeon.planning.scores.gains.Gains`.

    Args:
        effects: By path and part.
        parts: By path and candidate, the parts that it has.
        reasons: By path and candidate, why there is no gain.
        name: Of the score.
        unit: Of the gains; they are the same if the loss is multiplied by a number.
    """

    effects: Mapping[str, Mapping[str, Effect]]
    parts: Mapping[str, Mapping[str, tuple[str, ...]]]
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    name: ScoreName = "promise"
    unit: str = UNIT

    def of(self, chosen: Mapping[str, str]) -> float:
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        keys = [(path, part) for path, name in chosen.items() for part in self.parts.get(path, {}).get(name, ())]
        which = frozenset(self._index[key] for key in keys if self._gain[self._index[key]] > 0)
        if which not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[which] = self._together(sorted(which)) if which else 0.0
        return self._known[which]

    def _together(self, which: list[int]) -> float:
        b = self._gain[which]
        root = np.linalg.cholesky(self._curvature[np.ix_(which, which)])
        # b c - ½ c M c = ½ |y|² - ½ |Rᵀ c - y|² with M = R Rᵀ and R y = b
        y = np.linalg.solve(root, b)
        return float(0.5 * (y @ y - nnls(root.T, y)[1] ** 2))

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float | None:
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        if self.why_unknown(path, name) is not None:
            return None
        others = {p: n for p, n in chosen.items() if p != path}
        return self.of(others | {path: name}) - self.of(others)

    def why_unknown(self, path: str, name: str) -> str | None:
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        if name in self.parts.get(path, {}):
            return None
        return self.reasons.get(path, {}).get(name, UNKNOWN)

    def to_dict(self) -> dict[str, Any]:
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` gave.

        Raises:
            ArtefactError: It did not.
        """
        found: Self = read_record(cls, data)
        if len({len(effect.lowers) for each in found.effects.values() for effect in each.values()}) > 1:
            raise ArtefactError("these saved scores cannot be read: their effects differ in their numbers of samples")
        for path, by_candidate in found.parts.items():
            for part in {part for parts in by_candidate.values() for part in parts}:
                if part not in found.effects.get(path, {}):
                    raise ArtefactError(f"these saved scores cannot be read: there is no effect {part!r} of {path!r}")
        return found

    @cached_property
    def _index(self) -> dict[Key, int]:
        keys = [(path, part) for path, parts in self.effects.items() for part in parts]
        return {key: i for i, key in enumerate(keys)}

    @cached_property
    def _known(self) -> dict[frozenset[int], float]:
        """What was asked before: a search asks for the same parts hundreds of times."""
        return {}

    @cached_property
    def _lowers(self) -> Matrix:
        return np.array([self.effects[path][part].lowers for path, part in self._index], dtype=np.float64)

    @cached_property
    def _gain(self) -> Vector:
        return self._lowers.mean(1)

    @cached_property
    def _curvature(self) -> Matrix:
        root = np.sqrt([self.effects[path][part].curvature for path, part in self._index])
        return together(self._lowers) * np.outer(root, root)


def together(f: Matrix) -> Matrix:
    """(parts, samples) → (parts, parts): the correlations over samples, those below what chance gives taken for 0.

    Positive definite, with 1 in the diagonal.
    """
    samples = f.shape[1]
    centred = f - f.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    chance = 1.0 / np.sqrt(samples)
    found = np.clip((scaled @ scaled.T - chance) / max(1.0 - chance, chance), 0.0, 1.0)
    np.fill_diagonal(found, 1.0)
    values, vectors = np.linalg.eigh(found)
    found = (vectors * np.maximum(values, 1e-6)) @ vectors.T
    root = np.sqrt(found.diagonal())
    return found / np.outer(root, root)
