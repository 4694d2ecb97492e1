"""The gain that gradients promise, on samples that they were not fitted to.

With G the gradients of some parameters that start at zero, one row for each sample, F = GᵀG/n is their empirical Fisher matrix,
and one Newton step, θ = -(F + λ)⁻¹ ḡ, promises ½ ḡᵀF⁻¹ḡ: the score (Lagrange multiplier) test. Over the samples that θ was
computed from it promises something for pure noise too, the more the more parameters there are. So it is computed from one half of
the batches and tried on the other, where it lowers the loss by

    mean(f) - ½ mean(f²),   f = -G_b θ = t K_ba (K_aa + n λ)⁻¹ 1,   K = G Gᵀ:

λ and the length t of the step are those that gain most on the samples of the first half, each left out in turn; t is 0 if none of
them gains. That is the uncentred R² of a regression of 1 on the gradients, over 2. It lies below ½, is about 0 for noise, and is the same if the
loss is multiplied by a number. All that is needed of a part is its n × n matrix; those of a set of parts are added, and so their
gains overlap as their gradients do.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.planning.scores.gains import UNKNOWN, read_record
from saconv_surgeon.records.budgeted_plan import ScoreName
from saconv_surgeon.records.serialization import to_dict

Matrix = NDArray[np.float64]
UNIT = "held-out R²/2 of a Newton step"
RIDGES = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
"""Values of n λ that are tried, in units of the mean of the diagonal of a matrix, which is 1 for every part."""
SPLITS = 4
Way = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to fit, and rows to try."""


@dataclass(frozen=True)
class HeldOutGains:
    """Gains from one n × n matrix of inner products for each part of each layer.

    Args:
        batches: For each row, the batch that it is from; a batch is never split.
        grams: By path and part, the matrix as :func:`packed` writes it.
        parts: By path and candidate, the parts that it has; their matrices are added.
        reasons: By path and candidate, why there is no gain.
        splits: How many times the batches are halved; each half is fitted to and tried.
        seed: Of the halves.
    """

    batches: tuple[int, ...]
    grams: Mapping[str, Mapping[str, str]]
    parts: Mapping[str, Mapping[str, tuple[str, ...]]]
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    splits: int = SPLITS
    seed: int = 0
    name: ScoreName = "promise"
    unit: str = UNIT

    def of(self, chosen: Mapping[str, str]) -> float:
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        return self._gain(self._sum(chosen))

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float | None:
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        if self.why_unknown(path, name) is not None:
            return None
        others = self._sum({p: n for p, n in chosen.items() if p != path})
        return self._gain(others + self._sum({path: name})) - self._gain(others)

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
        """See :class:`~saconv_surgeon.planning.scores.gains.Gains`."""
        return read_record(cls, data)

    @cached_property
    def _matrices(self) -> dict[tuple[str, str], Matrix]:
        return {
            (path, part): unpacked(text, len(self.batches))
            for path, parts in self.grams.items()
            for part, text in parts.items()
        }

    @cached_property
    def _halves(self) -> list[Way]:
        return halves(self.batches, self.splits, self.seed)

    def _sum(self, chosen: Mapping[str, str]) -> Matrix:
        """The sum of the matrices of all parts that are chosen."""
        total = np.zeros((len(self.batches),) * 2)
        for path, name in chosen.items():
            for part in self.parts.get(path, {}).get(name, ()):
                total += self._matrices[path, part]
        return total

    def _gain(self, gram: Matrix) -> float:
        return held_out_gain(gram, self._halves) if gram.any() else 0.0


def held_out_gain(gram: Matrix, ways: Iterable[Way]) -> float:
    """The mean over ``ways`` of what a step fitted to the first rows promises on the others."""
    found = []
    for fitted, tried in ways:
        f = gram[np.ix_(tried, fitted)] @ fitted_step(gram[np.ix_(fitted, fitted)])
        found.append(f.mean() - 0.5 * np.square(f).mean())
    return float(np.mean(found))


def fitted_step(gram: Matrix) -> NDArray[np.float64]:
    """t (K + n λ)⁻¹ 1 with λ and t as they gain most, every sample being left out in turn.

    With A = K + n λ, the value at a sample of what the others say is 1 - (A⁻¹ 1)ᵢ / (A⁻¹)ᵢᵢ.
    """
    values, vectors = np.linalg.eigh(gram)
    inverse = 1.0 / (np.maximum(values, 0.0)[:, None] + RIDGES)
    steps = vectors @ (vectors.sum(0)[:, None] * inverse)
    left_out = 1.0 - steps / (np.square(vectors) @ inverse)
    mean, square = left_out.mean(0), np.square(left_out).mean(0)
    length = np.clip(mean / np.maximum(square, np.finfo(float).tiny), 0.0, 1.0)
    best = int(np.argmax(length * mean - 0.5 * np.square(length) * square))
    return length[best] * steps[:, best]


def halves(batches: Iterable[int], splits: int, seed: int) -> list[Way]:
    """(rows of one half of the batches, rows of the other), and the other way round, ``splits`` times."""
    of_row = np.array(list(batches))
    names, generator = np.unique(of_row), np.random.default_rng(seed)
    ways = []
    for _ in range(splits):
        chosen = generator.permutation(names)[: len(names) // 2]
        first, second = np.flatnonzero(np.isin(of_row, chosen)), np.flatnonzero(~np.isin(of_row, chosen))
        ways += [(first, second), (second, first)]
    return ways


def packed(gram: Matrix) -> str:
    """The lower triangle of a symmetric matrix, row after row, as float32 (little-endian) in base64: short, and read at once."""
    return base64.b64encode(gram[np.tril_indices(len(gram))].astype("<f4").tobytes()).decode()


def unpacked(text: str, n: int) -> Matrix:
    """The n × n matrix that :func:`packed` wrote.

    Raises:
        ArtefactError: It is of another size, or damaged.
    """
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except ValueError:
        values = np.empty(0)
    if len(values) != n * (n + 1) // 2 or not np.isfinite(values).all():
        raise ArtefactError(
            "these saved scores are damaged: a matrix of theirs cannot be read; score again without --scores"
        )
    gram = np.zeros((n, n))
    rows, columns = np.tril_indices(n)
    gram[rows, columns] = gram[columns, rows] = values
    return gram
