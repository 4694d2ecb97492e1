"""Runs the cells that are missing. Several processes may work side by side; what was interrupted is run again.

    python -m benchmarks.payoff.run [--processes N] [--only TEXT]

``--only dense/adamw-x3`` runs the cells whose path contains that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import torch
from torch import nn

import saconv_surgeon as surgeon
from benchmarks.payoff.arms import Situation, arm, why_not
from benchmarks.payoff.cells import Cell, claimed
from benchmarks.payoff.rates import try_missing
from benchmarks.payoff.recipes import parsed
from benchmarks.payoff.schedule import cells
from benchmarks.payoff.tasks import TASKS
from benchmarks.payoff.tasks.task import CACHE
from benchmarks.payoff.train import base, train
from saconv_surgeon.profiling.environment import conditions

_SIZES: dict[str, tuple[int | None, int]] = {}


def run(cell: Cell) -> dict[str, object]:
    """Trains one arm on and measures it; the record."""
    task, recipe = TASKS[cell.task], parsed(cell.recipe)
    original = base(task, cell.seed)
    torch.manual_seed(cell.seed)
    prepared = arm(cell.arm)(Situation(task, cell.seed, original))
    before = _size("twin", cell, original)
    after = _size(f"{cell.arm} {prepared.chosen}", cell, prepared.model)
    steps = round(prepared.step_factor * task.steps)
    torch.manual_seed(cell.seed)
    trained = train(
        prepared.model,
        task,
        task.pictures(cell.seed, test=False),
        recipe,
        rate=task.rates[recipe.optimizer],
        steps=steps,
        seed=cell.seed,
    )
    measured = task.evaluate(prepared.model, task.pictures(cell.seed, test=True))
    facts = conditions(torch.device("cpu"))
    return {
        "measure": task.measure,
        "metric": measured.metric,
        "by_size": dict(measured.by_size),
        "steps": steps,
        "macs_ratio": after[0] / before[0] if before[0] and after[0] else None,
        "parameters": after[1],
        "parameters_before": before[1],
        "chosen": dict(prepared.chosen) if prepared.chosen is not None else None,
        "last_loss": trained.last_loss,
        "seconds": round(trained.seconds, 2),
        "process_seconds": round(trained.process_seconds, 2),
        "device": facts["device_name"],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _size(what: str, cell: Cell, model: nn.Module) -> tuple[int | None, int]:
    """MACs and parameters; counted once for all seeds of an arm."""
    key = f"{cell.task} {what}"
    if key not in _SIZES:
        profile = surgeon.profile(model.eval(), TASKS[cell.task].example(), timing=None)
        _SIZES[key] = (profile.macs, profile.parameters)
    return _SIZES[key]


def work(only: str = "") -> None:
    """Goes through the cells and runs each that has no file and that no other process is at."""
    torch.set_num_threads(1)
    for cell in cells():
        path = cell.path()
        if only not in path.as_posix() or path.exists() or why_not(cell.arm, TASKS[cell.task]):
            continue
        with claimed(CACHE / "claims" / f"{cell.task}-{cell.recipe}-{cell.arm}-{cell.seed}.lock") as ours:
            if ours and not path.exists():
                found = run(cell)
                cell.write(found)
                print(
                    f"{cell.task:9} {cell.recipe:11} {cell.arm:20} seed {cell.seed}  {100 * float(str(found['metric'])):5.1f} %"
                    f"  {found['seconds']} s",
                    flush=True,
                )


def main() -> None:
    """One process for each core unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.payoff.run", "--processes", "1", "--only", options.only]
    others = [subprocess.Popen(command) for _ in range(options.processes - 1)]
    work(options.only)
    if not options.only:
        try_missing()
    if any(other.wait() for other in others):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
