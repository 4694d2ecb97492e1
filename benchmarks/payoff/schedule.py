"""Which cells there are, the most important first."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.payoff.cells import Cell

SEEDS = range(5)
FRESH = {"dense": range(5, 16), "classify": range(5, 21)}
"""Seeds that nobody had looked at when the default of ``plan`` was settled: it is judged by these alone."""
Arms = list[tuple[str, str]]

FIRST: Arms = [
    ("adamw-x1", "twin"),
    ("adamw-x3", "all"),
    ("adamw-x3", "contexts"),
    ("adamw-x1", "twin-2x"),
    ("adamw-x1", "all"),
    ("adamw-x1", "contexts"),
    ("adamw-x1", "branches"),
]
OTHER_MODELS: Arms = [("adamw-x1", "wider"), ("adamw-x1", "zero-branch")]
BUDGET: Arms = [
    ("adamw-x3", f"{name}-quarter")
    for name in ("random", "depth", "stages", "plan-probe", "random-parts", "contexts-only")
]
JUDGED: Arms = [
    ("adamw-x1", "twin"),
    ("adamw-x3", "all"),
    ("adamw-x3", "contexts"),
    *(("adamw-x3", f"{name}-quarter") for name in ("plan", "random", "depth", "stages", "contexts-only")),
]
CONTROLS: Arms = [
    ("adamw-x3", "branches"),
    ("adamw-x1", "twin-time"),
    ("adamw-x1", "dilated"),
    ("adamw-x1", "aws"),
    ("adamw-x1", "all-min-stride-8"),
    ("adamw-x1", "spconv"),
    ("adamw-x3", "zero-branch"),
    ("adamw-x1", "saconv-deform"),
]
RATES: Arms = [
    ("sgd-x1", "twin"),
    ("sgd-x1", "all"),
    ("sgd-x3", "all"),
    ("sgd-x10", "all"),
    ("adamw-x10", "all"),
    ("adamw-x0.3", "all"),
    ("adamw-x3-decay", "all"),
    ("sgd-x3", "contexts"),
]
SINGLE: Arms = [("adamw-x3", f"only-{i}") for i in range(8)]
OTHER_SCORES: Arms = [
    ("adamw-x3", f"{name}-quarter")
    for name in ("promise", "prior", "probe", "split-fisher", "gradient", "probe-spread")
]
WHAT: list[tuple[tuple[str, ...], Arms]] = [
    (("dense", "classify"), FIRST),
    (("dense", "classify"), BUDGET),
    (("dense", "classify"), OTHER_MODELS),
    (("detect",), [*FIRST, OTHER_MODELS[1]]),
    (("dense", "classify"), RATES),
    (("dense", "classify"), OTHER_SCORES),
    (("dense", "classify"), CONTROLS),
    (("dense",), SINGLE),
    (("detect",), [*BUDGET, *CONTROLS[:4], *RATES[:3]]),
]


def cells() -> Iterator[Cell]:
    """All of them."""
    for task, seeds in FRESH.items():
        for seed in seeds:
            for recipe, arm in JUDGED:
                yield Cell(task, recipe, arm, seed)
    for tasks, arms in WHAT:
        for task in tasks:
            for seed in SEEDS:
                for recipe, arm in arms:
                    yield Cell(task, recipe, arm, seed)
