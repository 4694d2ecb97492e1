"""Which learning rate is best for the untouched model, by optimizer, on a seed that no result is about.

python -m benchmarks.payoff.rates TASK…
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch

from benchmarks.payoff.cells import RESULTS, claimed, write_json
from benchmarks.payoff.recipes import Recipe
from benchmarks.payoff.tasks import TASKS
from benchmarks.payoff.tasks.task import CACHE, Task
from benchmarks.payoff.train import base, train

SCHEMA = "saconv-surgeon/payoff-rates/1"
SEED = 100
TRIED = {"adamw": (3e-4, 1e-3, 3e-3), "sgd": (3e-3, 1e-2, 3e-2, 1e-1)}


def try_missing() -> None:
    """For every task of which nothing was kept."""
    for task in TASKS.values():
        with claimed(CACHE / "claims" / f"{task.name}-rates.lock") as ours:
            if ours and not _path(task).exists():
                try_rates(task)


def _path(task: Task) -> Path:
    return RESULTS / task.name / "rates.json"


def try_rates(task: Task) -> None:
    """Trains the untouched model on at each rate and keeps what came of it."""
    torch.set_num_threads(1)
    original = base(task, SEED)
    pictures, test = (task.pictures(SEED, test=testing) for testing in (False, True))
    found: dict[str, dict[str, float]] = {}
    for optimizer, rates in TRIED.items():
        for rate in rates:
            model = copy.deepcopy(original)
            train(model, task, pictures, Recipe(optimizer), rate=rate, steps=task.steps, seed=SEED)
            found.setdefault(optimizer, {})[f"{rate:g}"] = task.evaluate(model, test).metric
            print(task.name, optimizer, f"{rate:g}", found[optimizer][f"{rate:g}"], flush=True)
    record = {
        "schema": SCHEMA,
        "task": task.name,
        "seed": SEED,
        "before": task.evaluate(original, test).metric,
        "after": found,
        "used": dict(task.rates),
    }
    write_json(_path(task), record)


if __name__ == "__main__":
    for given in sys.argv[1:] or TASKS:
        try_rates(TASKS[given])
