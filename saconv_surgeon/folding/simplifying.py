"""Taking out of trained layers what hardly contributes, before they are folded."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.comparing.layer_use import layer_use
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.folding.fold_layers import why_untouchable
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import watched
from saconv_surgeon.models.running.run import run
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.paths import paths_of
from saconv_surgeon.records import Freedom


@dataclass(frozen=True)
class Removed:
    """What was taken out of a layer, and how far its output moved: |y-y0| / |y0| in the 2-norm."""

    parts: tuple[str, ...] = ()
    cost: float = 0.0


def simplify(
    model: nn.Module,
    inputs: Inputs,
    tolerance: float,
    seed: int = 0,
    on_step: Callable[[float], None] = lambda done: None,
) -> tuple[nn.Module, dict[str, Removed]]:
    """A copy of ``model`` whose switchable layers lack what they can do without. ``model`` is left as it was.

    Tried one after the other, the most expensive first: a switch of 1 (no wide branch), of 0 (no narrow one), or of its own mean;
    no offsets; no post-context; no pre-context. Of layers of other targets, all new parts at once. Each stays out if the output
    of the layer, for the inputs that it gets in ``model``, is then within ``tolerance`` of what it was with everything in,
    relative, in the 2-norm.
    """
    simplified = copy_model(model)
    able = {path: m for path, m in simplified.named_modules() if isinstance(m, ConvertedLayer) and _can_change(m)}
    layers = {path: m for path, m in able.items() if isinstance(m, SAConv2d)}
    places = {path: paths_of(simplified)[id(layer)] for path, layer in able.items()}
    used = {f.path: f for f in layer_use(model, inputs, seed)}
    others = _silenced({path: m for path, m in able.items() if path not in layers}, used, tolerance)
    means = {path: used[path].switch_mean for path in layers if path in used}
    removed = {path: Removed() for path in means if used[path].moved is not None}
    for i, (what, change) in enumerate(STEPS):
        on_step(i / len(STEPS))
        tried = {path: _changed(layers[path], change, means[path] or 0.0) for path in removed}
        costs = _costs(model, {path: layer for path, layer in tried.items() if layer is not None}, inputs, seed)
        for path, cost in costs.items():
            trial = tried[path]
            if trial is not None and cost <= tolerance:
                layers[path] = trial  # with tensors of its own, whoever shared them
                removed[path] = Removed((*removed[path].parts, what), cost)
    removed = {path: out for path, out in removed.items() if out.parts}
    new = {path: layers[path] for path in removed} | {path: layer for path, (layer, _) in others.items()}
    removed |= {path: out for path, (_, out) in others.items()}
    for path in removed:
        for place in places[path]:
            if not place:
                return new[path], removed
            simplified.set_submodule(place, new[path])
    return simplified, removed


def _silenced(
    layers: Mapping[str, ConvertedLayer], used: Mapping[str, Freedom], tolerance: float
) -> dict[str, tuple[ConvertedLayer, Removed]]:
    """Layers of other targets whose new parts contribute less than ``tolerance``, without them."""
    found = {}
    for path, layer in layers.items():
        moved = used[path].moved if path in used else None
        alone = layer.silenced() if moved is not None and moved <= tolerance else None
        if alone is not None and moved is not None:
            found[path] = alone, Removed(("new parts",), moved)
    return found


def _can_change(layer: ConvertedLayer) -> bool:
    return not layer.is_at_rest() and why_untouchable(layer) is None


Change = Callable[[Any, float], bool]
"""Takes something out of a layer, in place, given the mean of its switch; False if there is nothing to take out."""


def _switch_to(value: float | None) -> Change:
    def change(layer: SAConv2d, mean: float) -> bool:
        bias = None if layer.switch is None else layer.switch.bias
        if layer.switch is None or bias is None:
            return False
        if not bool(layer.switch.weight.any()) and (value is None or bias.item() in (0.0, 1.0)):
            return False
        layer.switch.weight.zero_()
        bias.fill_(mean if value is None else value)
        return True

    return change


def _without(*names: str) -> Change:
    def change(layer: SAConv2d, mean: float) -> bool:
        parts = [p for name in names if (part := getattr(layer, name, None)) is not None for p in part.parameters()]
        there = any(bool(p.any()) for p in parts)
        for parameter in parts:
            parameter.zero_()
        return there

    return change


STEPS: tuple[tuple[str, Change], ...] = (
    ("wide branch", _switch_to(1.0)),
    ("narrow branch", _switch_to(0.0)),
    ("switch", _switch_to(None)),
    ("offsets", _without("offset_s", "offset_l")),
    ("post-context", _without("post_context")),
    ("pre-context", _without("pre_context")),
)


def _changed(layer: SAConv2d, change: Change, mean: float) -> SAConv2d | None:
    trial = copy.deepcopy(layer)
    with torch.no_grad():
        return trial if change(trial, mean) else None


def _costs(model: nn.Module, tried: Mapping[str, SAConv2d], inputs: Inputs, seed: int) -> dict[str, float]:
    """How far each changed layer is from that of ``model`` at its place, over all its calls."""
    moved, whole = dict.fromkeys(tried, 0.0), dict.fromkeys(tried, 0.0)

    def look(path: str, given: Tensor, output: Tensor) -> None:
        # without a norm or an activation of its own, which hides or magnifies
        x = given.unsqueeze(0) if given.dim() == 3 else given
        layer = model.get_submodule(path)
        assert isinstance(layer, SAConv2d)
        before = layer.blended(x).double()
        moved[path] += float((tried[path].blended(x).double() - before).square().sum())
        whole[path] += float(before.square().sum())

    if tried:
        with watched(model, tried, look), torch.no_grad():
            run(model, inputs, seed)
    return dict(_ratios(moved, whole))


def _ratios(moved: Mapping[str, float], whole: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for path, part in moved.items():
        ratio = 0.0 if part == 0 else math.sqrt(part / whole[path]) if whole[path] > 0 else math.inf
        yield path, ratio if math.isfinite(ratio) else math.inf
