"""Where the switchable layers of a model look far in a picture."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import watched
from saconv_surgeon.models.running.run import run
from saconv_surgeon.records import SwitchMap

MOST = 32
"""Cells of a map along each side, at most: larger ones are averaged."""


def switch_maps(model: nn.Module, inputs: Inputs, seed: int = 0) -> tuple[SwitchMap, ...]:
    """Of each ``SAConv2d`` with a switch, 1 − S over its first call's map of the first image, in eval mode, in order of running.

    Layers whose switch is not finite are left out.
    """
    layers = {path: m for path, m in model.named_modules() if isinstance(m, SAConv2d) and m.switch is not None}
    found: dict[str, SwitchMap] = {}

    def look(path: str, given: Tensor, output: Any) -> None:
        if path not in found and (seen := _map_of(path, layers[path], given)) is not None:
            found[path] = seen

    if layers:
        with watched(model, layers, look), torch.no_grad():
            run(model, inputs, seed)
    return tuple(found.values())


def _map_of(path: str, layer: SAConv2d, given: Tensor) -> SwitchMap | None:
    x = given.unsqueeze(0) if given.dim() == 3 else given
    seen: list[Tensor] = []
    handle = layer.pre_context.register_forward_hook(lambda *call: seen.append(call[2])) if layer.pre_context else None
    try:
        y = layer.blended(x)
    finally:
        if handle is not None:
            handle.remove()
    wide = 1 - layer.switch_at(x + seen[-1] if seen else x, y)[0, 0].double()
    mean = float(wide.mean())
    if not math.isfinite(mean):
        return None
    height, width = wide.shape
    small = F.adaptive_avg_pool2d(wide[None, None], (min(height, MOST), min(width, MOST)))[0, 0]
    rows = tuple(tuple(round(value, 3) for value in row) for row in small.tolist())
    return SwitchMap(path, mean, float((wide > 0.5).double().mean()), (height, width), rows)
