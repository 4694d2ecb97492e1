"""Ways to choose layers and parts at a quarter of what converting everything adds to the folded latency."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.payoff.arms import Situation, eligible
from benchmarks.payoff.planned import planned
from benchmarks.payoff.prices import CANDIDATES, prices

SHARE = 0.25
Pair = tuple[str, str]
"""The path of a layer and the name of what it becomes."""
Choice = Callable[[Situation], dict[str, str]]


def priced(s: Situation) -> dict[str, dict[str, float]]:
    """By path and candidate the added seconds of the folded layer, never below zero, in the order of calls."""
    layers = prices(s.task)["layers"]
    return {
        path: {name: max(0.0, layers[path][name]["seconds"]) for name in CANDIDATES}
        for path in eligible(s.model, s.task)
    }


def budget(costs: Mapping[str, Mapping[str, float]]) -> float:
    """A quarter of what all layers add whole."""
    return SHARE * sum(own["all"] for own in costs.values())


def taken_in_order(order: Iterable[Pair], costs: Mapping[str, Mapping[str, float]], most: float) -> dict[str, str]:
    """Each that still fits, in the order given, one for each layer."""
    chosen: dict[str, str] = {}
    spent = 0.0
    for path, name in order:
        if path not in chosen and spent + costs[path][name] <= most:
            chosen[path] = name
            spent += costs[path][name]
    return chosen


def _in_order(order: Callable[[Situation, Sequence[str]], Iterable[Pair]]) -> Choice:
    def choose(s: Situation) -> dict[str, str]:
        costs = priced(s)
        return taken_in_order(order(s, list(costs)), costs, budget(costs))

    return choose


def _shuffled(pairs: list[Pair], seed: int) -> list[Pair]:
    random.Random(seed).shuffle(pairs)
    return pairs


def _stages(s: Situation, paths: Sequence[str]) -> list[Pair]:
    """Those at stride 8 and more, the deepest first, as DetectoRS' stages 2 to 4."""
    import saconv_surgeon as surgeon

    sites = surgeon.inspect(s.model, s.task.example(), min_stride=8)
    within = {site.path for site in sites if site.decision == "convert"}
    return [(path, "all") for path in reversed(paths) if path in within]


def _planned(name: str) -> Choice:
    def choose(s: Situation) -> dict[str, str]:
        costs = priced(s)
        return planned(name, s, costs, budget(costs))

    return choose


PLANNED = ("plan", "promise", "plan-probe", "probe", "prior", "split-fisher", "gradient", "probe-spread")
CHOICES: dict[str, Choice] = {
    "contexts-only": _in_order(lambda s, paths: [(path, "contexts") for path in reversed(paths)]),
    "random": _in_order(lambda s, paths: _shuffled([(path, "all") for path in paths], s.seed)),
    "random-parts": _in_order(lambda s, paths: _shuffled([(p, name) for p in paths for name in CANDIDATES], s.seed)),
    "depth": _in_order(lambda s, paths: [(path, "all") for path in reversed(paths)]),
    "stages": _in_order(_stages),
    **{name: _planned(name) for name in PLANNED},
}
