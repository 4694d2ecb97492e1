"""Choosing one candidate for each layer: gains overlap, so what a candidate gains depends on what else was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from saconv_surgeon.planning.knapsack import Item, solve
from saconv_surgeon.planning.scores.gains import Gains

Choice = Mapping[str, str]
"""By path, the name of the candidate; layers that stay as they are have none."""
Loads = Mapping[str, Mapping[str, tuple[float, ...]]]
"""By path and name of a candidate, what it takes of each capacity."""
ROUNDS = 6
KEPT = 0.5
"""How much of the gains of the round before is kept: without it two layers that stand in for each other swap for ever."""
GAP = 1e-3
"""Of the solutions after the first, whose gains are an approximation anyway."""
MOST_SCORED = 5_000
"""How often candidates are scored beside a choice before swaps end."""


@dataclass(frozen=True)
class Problem:
    """What each candidate takes of each capacity, and the capacities."""

    loads: Loads
    capacities: tuple[float, ...]

    def takes(self, chosen: Choice) -> np.ndarray:
        """What a choice takes of each capacity."""
        rows = [self.loads[path][name] for path, name in chosen.items()]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.capacities)).sum(axis=0)

    def allows(self, chosen: Choice) -> bool:
        """Whether a choice is within every capacity."""
        return bool((self.takes(chosen) <= np.asarray(self.capacities)).all())


def choose(problem: Problem, gains: Gains, starts: Iterable[Choice] = (), *, swaps: bool = True) -> dict[str, str]:
    """The choice with the largest joint gain that was found, within the capacities; empty if nothing that fits gains anything.

    Exact if gains add up. Otherwise the knapsack is solved with what each candidate adds beside the choice, again and again until
    that changes no more; a greedy choice by gain for price is tried as well, and ``starts`` if they fit; each is filled up, and
    with ``swaps`` improved by giving one layer up for another.
    """
    search = _Search(problem, gains)
    found = [*search.knapsacks(), {}, *(dict(start) for start in starts if problem.allows(start))]
    finished = [search.pruned(search.filled(choice)) for choice in _different(found)]
    if swaps:
        finished = [search.swapped(choice) for choice in _different(finished)]
    return max(finished, key=lambda c: (search.joint(c), -search.price(c)))


def _different(choices: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return list({frozenset(choice.items()): choice for choice in choices}.values())


class _Search:
    """All candidates as rows of ``loads``; ``keys`` names them."""

    def __init__(self, problem: Problem, gains: Gains) -> None:
        self.problem, self.gains = problem, gains
        self.keys = [(path, name) for path, names in problem.loads.items() for name in names]
        self.row = {key: i for i, key in enumerate(self.keys)}
        self.loads = np.array([problem.loads[p][n] for p, n in self.keys], dtype=float)
        self.loads = self.loads.reshape(len(self.keys), len(problem.capacities))
        self.limits = np.asarray(problem.capacities, dtype=float)
        self.units = np.array([self._unit(k) for k in range(len(self.limits))])
        self.scored = 0

    def _unit(self, k: int) -> float:
        """The price of one: the capacity, or all that could be taken of it if that is less, or the capacity is 0."""
        most = float(np.abs(self.loads[:, k]).sum()) if len(self.keys) else 0.0
        return (min(self.limits[k], most) if self.limits[k] > 0 else most) or 1.0

    def joint(self, chosen: Choice) -> float:
        """What a choice gains."""
        return self.gains.of(chosen) if chosen else 0.0

    def beside(self, chosen: Choice, path: str, name: str) -> float:
        """What a candidate adds beside the choice for the other layers; 0 if that is not known, so that it is not chosen."""
        self.scored += 1
        others = {p: n for p, n in chosen.items() if p != path}
        found = self.gains.beside(others, path, name)
        return found if found is not None and np.isfinite(found) else 0.0

    def price(self, chosen: Choice) -> float:
        """Of what a choice takes, as shares of the capacities, the sum."""
        return float((self.problem.takes(chosen) / self.units).sum())

    def knapsacks(self) -> list[dict[str, str]]:
        """The choices of all rounds of solving and scoring again."""
        found: list[dict[str, str]] = []
        weights = {key: self.beside({}, *key) for key in self.keys}
        for _ in range(ROUNDS):
            items = [Item(p, n, gain, self.problem.loads[p][n]) for (p, n), gain in weights.items()]
            chosen = solve(items, self.problem.capacities, GAP if found else 0.0)
            if chosen in found:
                break
            found.append(chosen)
            fresh = {key: self.beside(chosen, *key) for key in self.keys}
            if fresh == weights:
                break
            weights = {key: KEPT * weights[key] + (1 - KEPT) * fresh[key] for key in fresh}
        return found

    def filled(self, start: Choice, without: str | None = None) -> dict[str, str]:
        """``start`` with more candidates, or others, as long as one gains something and fits; the best for its price first.

        ``without`` is a path that stays as it is.
        """
        chosen = dict(start)
        for _ in range(len(self.keys)):
            move = self._best_move(chosen, without)
            if move is None:
                break
            chosen |= dict([move])
        return chosen

    def _best_move(self, chosen: Choice, without: str | None) -> tuple[str, str] | None:
        now = {path: self.beside(chosen, path, name) for path, name in chosen.items()}
        best, value = None, 0.0
        for i, dearer in self._affordable(chosen):
            path, name = self.keys[i]
            if path == without or chosen.get(path) == name:
                continue
            more = self.beside(chosen, path, name) - now.get(path, 0.0)
            worth = more / max(dearer, 1e-9)  # what costs nothing comes first
            if more > 1e-9 * abs(now.get(path, 0.0)) and worth > value:
                best, value = (path, name), worth
        return best

    def _affordable(self, chosen: Choice) -> Iterable[tuple[int, float]]:
        """The rows of the candidates that fit beside the others, each with what the choice then costs more."""
        change = self.loads.copy()
        own = {path: self.loads[self.row[path, name]] for path, name in chosen.items()}
        for i, (path, _) in enumerate(self.keys):
            if path in own:
                change[i] -= own[path]
        fitting = (change + self.problem.takes(chosen) <= self.limits).all(axis=1)
        dearer = (change / self.units).sum(axis=1)
        return ((int(i), float(dearer[i])) for i in np.flatnonzero(fitting))

    def pruned(self, chosen: Choice) -> dict[str, str]:
        """Without candidates that gain nothing beside the others, the worst first."""
        left = dict(chosen)
        while left:
            gains = {path: self.beside(left, path, name) for path, name in left.items()}
            worst = min(gains, key=gains.__getitem__)
            if gains[worst] > 0:
                break
            del left[worst]
        return left if self.problem.allows(left) else {}

    def swapped(self, start: Choice) -> dict[str, str]:
        """One layer after the other given up for what then gains more, until none helps or enough was tried."""
        chosen, gain = dict(start), self.joint(start)
        better = True
        while better:
            better = False
            order = {path: self.beside(chosen, path, name) for path, name in chosen.items()}
            for path in sorted(order, key=order.__getitem__):
                if self.scored > MOST_SCORED:
                    break
                rest = {p: n for p, n in chosen.items() if p != path}
                other = self.pruned(self.filled(rest, without=path))
                other = self.pruned(self.filled(other))
                if self.joint(other) > gain + 1e-9 * abs(gain):
                    chosen, gain, better = other, self.joint(other), True
                    break
        return chosen
