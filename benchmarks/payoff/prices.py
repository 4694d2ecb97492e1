"""What each layer's candidates cost, measured once for a task and kept, so that all arms choose by the same prices.

python -m benchmarks.payoff.prices TASK…      # on an otherwise idle machine
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import saconv_surgeon as surgeon
from benchmarks.payoff.cells import RESULTS, write_json
from benchmarks.payoff.recipes import Recipe, optimizer_of
from benchmarks.payoff.tasks import TASKS
from benchmarks.payoff.tasks.task import Task
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.profiling.environment import conditions

SCHEMA = "saconv-surgeon/payoff-prices/1"
CANDIDATES = ("contexts", "branches", "all")
BATCH = 8
ROUNDS, CALLS = 100, 1
STEPS = 12


@cache
def prices(task: Task) -> dict[str, Any]:
    """The record of a task; measured now if there is none."""
    path = _path(task)
    if not path.exists():
        measure(task)
    return json.loads(path.read_text(encoding="utf-8"))


def _path(task: Task) -> Path:
    return RESULTS / task.name / "prices.json"


def measure(task: Task) -> Path:
    """Times every candidate of every layer, folded, beside its convolution; and a training step of the converted model."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = task.new_model().eval()
    example = task.example(BATCH)
    paths = [site.path for site in surgeon.inspect(model, example) if site.decision == "convert"]
    inputs = _inputs(model, paths, example)
    wholes = {
        name: _moved(surgeon.convert(model, example, options={"parts": name}, trials=1).model) for name in CANDIDATES
    }
    layers: dict[str, dict[str, dict[str, float]]] = {}
    for path in paths:
        modules = {"plain": model.get_submodule(path)}
        for name, whole in wholes.items():
            layer = whole.get_submodule(path)
            assert isinstance(layer, ConvertedLayer)
            modules[name] = layer.folded().eval()
        took = _alternately(modules, inputs[path])
        layers[path] = {
            name: {"seconds": took[name] - took["plain"], "ratio": took[name] / took["plain"]} for name in CANDIDATES
        }
        layers[path]["plain"] = {"seconds": took["plain"], "ratio": 1.0}
    steps = _alternating_steps(task, {"plain": model, **wholes})
    record = {
        "schema": SCHEMA,
        "task": task.name,
        "batch": BATCH,
        "layers": layers,
        "step_seconds": steps,
        "step_ratio": steps["all"] / steps["plain"],
        "environment": conditions(torch.device("cpu")),
    }
    write_json(_path(task), record)
    return _path(task)


def _inputs(model: nn.Module, paths: list[str], example: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.setdefault(path, inputs[0].clone())  # what a hook returns takes the output's place

        return hook

    hooks = [model.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return seen


def _moved(model: nn.Module) -> nn.Module:
    """The new parts are no longer what they start at, so that folding leaves none of them out."""
    with torch.no_grad():
        for parameter in surgeon.new_parameters(model):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def _alternately(modules: dict[str, nn.Module], x: Tensor) -> dict[str, float]:
    """The least of each module's times, all timed in turn: other work on the machine only adds."""
    took: dict[str, list[float]] = {name: [] for name in modules}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, module in modules.items():
                start = time.perf_counter()
                for _ in range(CALLS):
                    module(x)
                took[name].append((time.perf_counter() - start) / CALLS)
    return {name: min(values) for name, values in took.items()}


def _alternating_steps(task: Task, models: dict[str, nn.Module]) -> dict[str, float]:
    pictures = task.pictures(0, test=False)
    own = {name: copy.deepcopy(model).train() for name, model in models.items()}
    optimizers = {name: optimizer_of(model, Recipe("adamw"), 1e-4) for name, model in own.items()}
    took: dict[str, list[float]] = {name: [] for name in models}
    for i in range(STEPS):
        batch = pictures.chosen(slice(i * task.batch, (i + 1) * task.batch))
        for name, model in own.items():
            start = time.perf_counter()
            loss = task.output_loss(model(batch.inputs()), batch)
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            took[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[2:]) for name, values in took.items()}


if __name__ == "__main__":
    for given in sys.argv[1:] or TASKS:
        print(measure(TASKS[given]))
