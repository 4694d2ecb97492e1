"""The gain that gradients promise, on samples that they were not fitted to.

With G the gradients of some parameters that start at zero, one row for each sample, F = GᵀG/n is their empirical Fisher matrix,
and one Newton step, θ = -(F + λ)⁻¹ ḡ, promises ½ ḡᵀF⁻¹ḡ: the score (Lagrange multiplier) test. Over the samples that θ was
computed from it promises something for pure noise too, the more the more parameters there are. So it is computed from one half of
the batches and tried on the other, where it lowers the loss by

    mean(f) - ½ mean(f²),   f = -G_b θ = K_ba (K_aa + n λ)⁻¹ 1,   K = G Gᵀ:

the uncentred R² of a regression of 1 on the gradients, over 2. It lies below ½, is about 0 for noise, and is the same if the
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
RIDGE = 1.0
SPLITS = 4


@dataclass(frozen=True)
class HeldOutGains:
    """Gains from one n × n matrix of inner products for each part of each layer.

    Args:
        batches: For each row, the batch that it is from; a batch is never split.
        grams: By path and part, the matrix as :func:`packed` writes it.
        parts: By path and candidate, the parts that it has; their matrices are added.
        reasons: By path and candidate, why there is no gain.
        ridge: n λ, in units of the mean of a matrix's diagonal, which is 1 for every part.
        seed: Of the halves.
    """

    batches: tuple[int, ...]
    grams: Mapping[str, Mapping[str, str]]
    parts: Mapping[str, Mapping[str, tuple[str, ...]]]
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ridge: float = RIDGE
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
    def _halves(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        return halves(self.batches, self.splits, self.seed)

    def _sum(self, chosen: Mapping[str, str]) -> Matrix:
        """The sum of the matrices of all parts that are chosen."""
        total = np.zeros((len(self.batches),) * 2)
        for path, name in chosen.items():
            for part in self.parts.get(path, {}).get(name, ()):
                total += self._matrices[path, part]
        return total

    def _gain(self, gram: Matrix) -> float:
        return held_out_gain(gram, self._halves, self.ridge) if gram.any() else 0.0


def held_out_gain(gram: Matrix, ways: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]], ridge: float) -> float:
    """The mean over ``ways``, pairs of rows to fit and rows to try, of what a step fitted to the first promises on the second."""
    found = []
    for fitted, tried in ways:
        inside = gram[np.ix_(fitted, fitted)]
        step = np.linalg.solve(inside + ridge * np.eye(len(fitted)), np.ones(len(fitted)))
        f = gram[np.ix_(tried, fitted)] @ step
        found.append(f.mean() - 0.5 * np.square(f).mean())
    return float(np.mean(found))


def halves(batches: Iterable[int], splits: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
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
