"""How much trained layers use what the conversion added, on the inputs that each of them gets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.comparing.part_shares import PartSums, energy, finite, says_its_parts, share, use_of
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import watched
from saconv_surgeon.models.running.run import run
from saconv_surgeon.records import Freedom

HARDLY = 1e-3
"""How far a layer's output may be from its plain convolution's, relatively, to count as hardly different."""


def layer_use(model: nn.Module, inputs: Inputs, seed: int = 0) -> tuple[Freedom, ...]:
    """One record for each ``SAConv2d`` of ``model``, and for each layer that says what its parts add, in eval mode.

    Those that do not run have no figures of their outputs.
    """
    layers: dict[str, Any] = {
        path: m for path, m in model.named_modules() if isinstance(m, SAConv2d) or says_its_parts(m)
    }
    seen = {path: _Sums() if isinstance(layer, SAConv2d) else PartSums() for path, layer in layers.items()}

    def look(path: str, given: Tensor, output: Tensor) -> None:
        seen[path].add(layers[path], given)

    if layers:
        with watched(model, layers, look), torch.no_grad():
            run(model, inputs, seed)
    return tuple(seen[path].record(path, layer, HARDLY) for path, layer in layers.items())


@dataclass
class _Sums:
    """Sums of squares and of the switch over all outputs of a layer."""

    calls: int = 0
    positions: int = 0
    switch: float = 0.0
    switch_squared: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    given: float = 0.0
    before: float = 0.0
    output: float = 0.0
    blend: float = 0.0
    after: float = 0.0
    moved: float = 0.0
    offsets: float = 0.0
    samples: int = 0

    def add(self, layer: SAConv2d, given: Tensor) -> None:
        """Runs ``layer`` once more, with its parts watched."""
        x = given.unsqueeze(0) if given.dim() == 3 else given
        with _parts(layer) as parts:
            y = layer.blended(x)
            before = parts.pop("pre_context", None)
            after = parts.pop("post_context", None)
            if layer.switch is not None:
                self._add_switch(layer.switch_at(x if before is None else x + before, y).double())
            kernel = layer.standardised_weight().to(layer.weight.dtype)
            plain = layer._conv_forward(x, kernel, layer.bias)
        self.calls += y.numel() > 0
        self.output += energy(y)
        if before is not None:
            self.given += energy(x)
            self.before += energy(before.expand_as(x))
        if after is not None:
            self.after += energy(after.expand_as(y))
            self.blend += energy(y - after)
        self.moved += energy(y.double() - plain.double())
        for offsets in parts.values():  # (N, 2·taps, H, W), y and x of each tap in turn
            pairs = offsets.double().unflatten(1, (-1, 2))
            self.offsets += float(pairs.norm(dim=2).sum())
            self.samples += pairs[:, :, 0].numel()

    def _add_switch(self, switch: Tensor) -> None:
        self.positions += switch.numel()
        self.switch += float(switch.sum())
        self.switch_squared += float(switch.square().sum())
        self.least, self.most = min(self.least, float(switch.min())), max(self.most, float(switch.max()))

    def record(self, path: str, layer: SAConv2d, hardly: float) -> Freedom:
        """The figures of all outputs."""
        kernel, change = layer.standardised_weight().detach().double(), layer.weight_diff
        mean = self.switch / self.positions if self.positions else None
        spread = None if mean is None else math.sqrt(max(self.switch_squared / self.positions - mean * mean, 0.0))
        ran = self.calls > 0
        moved, recipe = share(self.moved, self.output) if ran else None, Recipe.of(layer)
        return Freedom(
            path=path,
            type=type(layer).__name__,
            switch_mean=finite(mean),
            switch_std=finite(spread),
            switch_min=finite(self.least),
            switch_max=finite(self.most),
            weight_diff=None if change is None else share(energy(change.detach()), energy(kernel)),
            pre_context=share(self.before, self.given) if ran and layer.pre_context is not None else None,
            post_context=share(self.after, self.blend) if ran and layer.post_context is not None else None,
            moved=moved,
            use=use_of(layer, ran=ran, moved=moved, hardly=hardly),
            offset=self.offsets / self.samples if self.samples else None,
            target=recipe.target,
            options=recipe.options,
        )


@contextmanager
def _parts(layer: SAConv2d) -> Iterator[dict[str, Tensor]]:
    """The outputs of the contexts and, in a deformable layer, of the offset predictors."""
    given: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            given[name] = output

        return hook

    with ExitStack() as handles:
        for name in ("pre_context", "post_context", "offset_s", "offset_l"):
            if (part := getattr(layer, name, None)) is not None:
                handles.callback(part.register_forward_hook(keep(name)).remove)
        yield given
