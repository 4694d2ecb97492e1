"""The multiple-choice knapsack: the candidates with the largest sum of gains, one a layer at most, within several budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from saconv_surgeon.planning.muted import muted_stdout

LONGEST_S = 20.0
"""Seconds that one solution may take; the best one that was found then counts. Layers by the hundred take a tenth."""
LARGEST = 1e4
"""What the largest gain is scaled to: the solver takes differences below 1e-6 for none."""
ROUNDS = 20


@dataclass(frozen=True)
class Item:
    """One candidate of one layer: what it gains, and what it takes of each capacity (less than 0 if it gives back)."""

    path: str
    name: str
    gain: float
    loads: tuple[float, ...]


def solve(items: Iterable[Item], capacities: Sequence[float], gap: float = 0.0) -> dict[str, str]:
    """By path, the name of the chosen item; layers that stay as they are have none.

    The largest sum of gains, at most one item a path, the sum of loads within each capacity. An item that gains nothing is never
    chosen, not even if it gives capacity back. Of two items of a path that gain the same, the one that takes less. ``gap`` is how
    far below the optimum the sum may stay, relative.
    """
    items = _worth_it(items)
    if not items:
        return {}
    limits = np.asarray(capacities, dtype=float)
    loads = np.array([item.loads for item in items], dtype=float).reshape(len(items), len(limits))
    tightened = limits.copy()
    for _ in range(ROUNDS):
        chosen = _solved(items, loads, tightened, gap)
        excess = loads[chosen].sum(axis=0) - limits
        if (excess <= 0).all():
            return {items[i].path: items[i].name for i in np.flatnonzero(chosen)}
        tightened -= np.where(excess > 0, 2 * excess, 0)  # the solver allows a millionth more
    return {}


def fits(items: Iterable[Item], capacities: Sequence[float]) -> bool:
    """Whether the items are within every capacity together."""
    total = np.zeros(len(capacities))
    for item in items:
        total += item.loads
    return bool((total <= np.asarray(capacities)).all())


def _worth_it(items: Iterable[Item]) -> list[Item]:
    """Items that gain something, without those than which another one of the same path gains no less and takes no more."""
    kept: dict[str, list[Item]] = {}
    for item in items:
        rivals = kept.setdefault(item.path, [])
        if item.gain <= 0 or any(_beats(rival, item) for rival in rivals):
            continue
        rivals[:] = [rival for rival in rivals if not _beats(item, rival)] + [item]
    return [item for rivals in kept.values() for item in rivals]


def _beats(a: Item, b: Item) -> bool:
    return a.gain >= b.gain and all(x <= y for x, y in zip(a.loads, b.loads, strict=True))


def _solved(items: Sequence[Item], loads: np.ndarray, limits: np.ndarray, gap: float) -> np.ndarray:
    """Which items are chosen, as booleans."""
    gains = np.array([item.gain for item in items])
    paths = {path: i for i, path in enumerate(dict.fromkeys(item.path for item in items))}
    one_each = np.zeros((len(paths), len(items)))
    one_each[[paths[item.path] for item in items], np.arange(len(items))] = 1
    constraints = [LinearConstraint(one_each, -np.inf, 1)]
    for column, limit in zip(loads.T, limits, strict=True):
        unit = max(np.abs(column).max(), abs(limit)) or 1.0
        constraints.append(LinearConstraint(column / unit, -np.inf, limit / unit))
    with muted_stdout():
        found = milp(
            -gains / gains.max() * LARGEST,
            integrality=np.ones(len(items)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": gap, "time_limit": LONGEST_S},
        )
    return np.zeros(len(items), dtype=bool) if found.x is None else np.round(found.x) == 1


def nearest(items: Iterable[Item], capacities: Sequence[float]) -> tuple[float, ...] | None:
    """The capacities that the cheapest item needs, if none fits: those of the item that exceeds them least, relative to what it
    takes. None if there is no item.
    """
    candidates = [replace(item, gain=1.0) for item in items]
    if not candidates:
        return None

    def excess(item: Item) -> tuple[float, float]:
        over = [max(0.0, load - limit) for load, limit in zip(item.loads, capacities, strict=True)]
        scales = [max(abs(i.loads[k]) for i in candidates) or 1.0 for k in range(len(capacities))]
        relative = [o / scale for o, scale in zip(over, scales, strict=True)]
        return max(relative, default=0.0), sum(relative)

    cheapest = min(candidates, key=excess)
    return tuple(max(load, limit) for load, limit in zip(cheapest.loads, capacities, strict=True))
