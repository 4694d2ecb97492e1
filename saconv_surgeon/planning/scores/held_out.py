"""What a step of single parts promises on samples that it was not fitted to.

With G the gradients of some parameters that start at zero, one row for each sample, one Newton step promises ½ ḡᵀF⁻¹ḡ with F
the Fisher matrix: the score (Lagrange multiplier) test. Here the rows are in coordinates in which the Fisher matrix of single
positions is about 1 (see ``watching``), and F = GᵀG/n + 1.

Over the samples that a step was computed from it promises something for pure noise too, the more the more parameters there are.
So it is computed from one half of the batches and tried on the other: the step θ = -t (GᵀG/n + λ)⁻¹ ḡ lowers the loss of
sample b, to first order, by

    f = -G_b θ = t K_ba (K_aa + n λ)⁻¹ 1,   K = G Gᵀ.

λ ≥ 1 and the length t are those that gain most on the samples of the first half, each left out in turn; t is 0 if none gains.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Way = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to fit, and rows to try."""
RIDGES = np.array([1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
"""Values of λ that are tried."""
SPLITS = 4
"""How often the batches are halved; each half is fitted to and tried."""


def cross_fitted(gram: Matrix, ways: Sequence[Way]) -> tuple[Vector, float]:
    """For each row, f by the steps that it was not fitted to, on average; and the mean of θᵀθ, the curvature of the positions."""
    sums, counts, squares = np.zeros(len(gram)), np.zeros(len(gram)), 0.0
    for fitted, tried in ways:
        inside = gram[np.ix_(fitted, fitted)]
        step = fitted_step(inside)
        sums[tried] += gram[np.ix_(tried, fitted)] @ step
        counts[tried] += 1
        squares += float(step @ inside @ step)
    return sums / counts, squares / len(ways)


def fitted_step(gram: Matrix) -> Vector:
    """t (K + n λ)⁻¹ 1 with λ and t as they gain most, every sample being left out in turn.

    With A = K + n λ, the value at a sample of what the others say is 1 - (A⁻¹ 1)ᵢ / (A⁻¹)ᵢᵢ.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)[:, None]
    inverse = 1.0 / (values + len(gram) * RIDGES)
    projected = vectors.sum(0)[:, None] * inverse
    steps = vectors @ projected
    left_out = 1.0 - steps / (np.square(vectors) @ inverse)
    mean = left_out.mean(0)
    curvature = np.square(left_out).mean(0) + (values * np.square(projected)).sum(0)
    length = np.clip(mean / np.maximum(curvature, np.finfo(float).tiny), 0.0, 1.0)
    best = int(np.argmax(length * mean - 0.5 * np.square(length) * curvature))
    return length[best] * steps[:, best]


def halves(batches: Iterable[int], splits: int = SPLITS, seed: int = 0) -> list[Way]:
    """(rows of one half of the batches, rows of the other), and the other way round, ``splits`` times; ``batches`` is by row."""
    of_row = np.array(list(batches))
    names, generator = np.unique(of_row), np.random.default_rng(seed)
    ways = []
    for _ in range(splits):
        chosen = generator.permutation(names)[: len(names) // 2]
        first, second = np.flatnonzero(np.isin(of_row, chosen)), np.flatnonzero(~np.isin(of_row, chosen))
        ways += [(first, second), (second, first)]
    return ways
