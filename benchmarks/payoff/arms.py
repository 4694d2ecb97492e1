"""Arms: what a trained model becomes before it is trained on."""

from __future__ import annotations

import copy
import glob
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

import saconv_surgeon as surgeon
from benchmarks.payoff.controls import ZeroBranch, widened, wider, with_layers
from benchmarks.payoff.tasks.task import Task

WIDER = 1.4
"""About the MACs of SAConv everywhere."""
CALIBRATION_BATCHES = 8


@dataclass(frozen=True)
class Situation:
    """What an arm is made of: the trained model of a seed, which stays as it is."""

    task: Task
    seed: int
    model: nn.Module


@dataclass(frozen=True)
class Prepared:
    """A model to be trained on, for ``step_factor`` times the steps. ``chosen``: what became of the layers chosen."""

    model: nn.Module
    step_factor: float = 1.0
    chosen: Mapping[str, str] | None = None


Build = Callable[[Situation], Prepared]


def eligible(model: nn.Module, task: Task) -> list[str]:
    """Paths of the convolutions that SAConv takes, in the order of calls."""
    return [site.path for site in surgeon.inspect(model, task.example()) if site.decision == "convert"]


def converted(**arguments: Any) -> Build:
    """Converted by ``surgeon.convert``."""

    def build(s: Situation) -> Prepared:
        return Prepared(surgeon.convert(s.model, s.task.example(), trials=1, **arguments).model)

    return build


def layers_converted(model: nn.Module, task: Task, chosen: Mapping[str, str]) -> nn.Module:
    """``model`` with parts of SAConv in some layers: by path ``"contexts"``, ``"branches"`` or ``"all"``."""
    for parts in sorted(set(chosen.values())):
        paths = [glob.escape(path) for path, name in chosen.items() if name == parts]
        options = {"parts": parts}
        model = surgeon.convert(model, task.example(), include=paths, options=options, trials=1).model
    return model


def _twin(s: Situation) -> Prepared:
    return Prepared(copy.deepcopy(s.model))


def _longer(factor: Callable[[Situation], float]) -> Build:
    def build(s: Situation) -> Prepared:
        return replace(_twin(s), step_factor=factor(s))

    return build


def _equal_time(s: Situation) -> float:
    from benchmarks.payoff.prices import prices

    return float(prices(s.task)["step_ratio"])


def _wider(s: Situation) -> Prepared:
    return Prepared(wider(s.task, s.model, WIDER))


def _dilated(s: Situation) -> Prepared:
    return Prepared(with_layers(s.model, eligible(s.model, s.task), widened))


def _zero_branch(s: Situation) -> Prepared:
    return Prepared(with_layers(s.model, eligible(s.model, s.task), ZeroBranch))


def _spconv(s: Situation) -> Prepared:
    pictures = s.task.pictures(s.seed, test=False)
    batches = [pictures.chosen(slice(64 * i, 64 * (i + 1))).inputs() for i in range(CALIBRATION_BATCHES)]
    return converted(target="spconv", options={"ratio": "1/2"}, data=batches)(s)


def _only(place: int) -> Build:
    """The ``place``-th eligible layer alone, whole."""

    def build(s: Situation) -> Prepared:
        chosen = {eligible(s.model, s.task)[place]: "all"}
        return Prepared(layers_converted(s.model, s.task, chosen), chosen=chosen)

    return build


def _choice(name: str) -> Build:
    """What a way to choose chooses at a quarter of the added latency."""

    def build(s: Situation) -> Prepared:
        from benchmarks.payoff.choices import CHOICES

        chosen = CHOICES[name](s)
        return Prepared(layers_converted(s.model, s.task, chosen), chosen=chosen)

    return build


ARMS: dict[str, Build] = {
    "twin": _twin,
    "twin-2x": _longer(lambda s: 2.0),
    "twin-time": _longer(_equal_time),
    "wider": _wider,
    "dilated": _dilated,
    "zero-branch": _zero_branch,
    "contexts": converted(options={"parts": "contexts"}),
    "branches": converted(options={"parts": "branches"}),
    "all": converted(),
    "all-min-stride-8": converted(min_stride=8),
    "saconv-deform": converted(target="saconv-deform"),
    "aws": converted(target="aws"),
    "spconv": _spconv,
}


def arm(name: str) -> Build:
    """The arm of a name: one of ``ARMS``, ``only-3`` (one layer), or ``promise-quarter`` (a way to choose)."""
    if name.startswith("only-"):
        return _only(int(name.removeprefix("only-")))
    if name.endswith("-quarter"):
        return _choice(name.removesuffix("-quarter"))
    return ARMS[name]


def why_not(name: str, task: Task) -> str | None:
    """Why an arm cannot be run here, or None."""
    if name == "saconv-deform":
        try:
            _ = torch.ops.torchvision.deform_conv2d.default
        except (AttributeError, RuntimeError):
            return "torchvision's compiled deform_conv2d is absent"
    if name == "wider" and task.name == "detect":
        return "channels of concatenated maps cannot be added at their end"
    return None
