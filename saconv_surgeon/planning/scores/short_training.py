"""A short training of converted layers, and how far each of their parts moved the output of its layer in the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.scores.candidate_parts import BRANCHES, CONTEXTS

Key = tuple[str, str]
"""The path of a layer and one of its parts."""
WARM_UP = 0.25
"""The share of the steps in which the rate rises."""


class ShortTraining:
    """Trains ``model``, in place, with AdamW: the rate rises to a quarter of the steps, then falls as a cosine does."""

    def __init__(
        self, model: nn.Module, paths: Iterable[str], kept: Set[Key] | None, steps: int, rates: tuple[float, float]
    ) -> None:
        """Of the switchable layers at ``paths``, the parts in ``kept`` (None: all) train; ``rates`` are (old, new)."""
        self.model = model
        self.steps, self.done = steps, 0
        self.layers: dict[str, SAConv2d] = {}
        self.parts: dict[Key, list[nn.Parameter]] = {}
        for path in paths:
            layer = model.get_submodule(path)
            assert isinstance(layer, SAConv2d)
            self.layers[path] = layer
            for name, parameter in layer.named_parameters():
                if layer.is_new(name):
                    key = path, part_of(name)
                    parameter.requires_grad_(kept is None or key in kept)
                    if parameter.requires_grad:
                        self.parts.setdefault(key, []).append(parameter)
        new = [p for parameters in self.parts.values() for p in parameters]
        own = {id(p) for p in new}
        old = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        groups = [(p, rate) for p, rate in zip((old, new), rates, strict=True) if p]
        self.rates = [rate for _, rate in groups]
        self.optimizer = torch.optim.AdamW([{"params": p, "lr": rate} for p, rate in groups], weight_decay=0.0)
        self.trained = [*old, *new]
        self.reached: set[Key] = set()

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of ``loss``.

        Raises:
            UsageError: A gradient is not finite.
        """
        gradients = torch.autograd.grad(loss, self.trained, allow_unused=True)
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            parameter.grad = gradient
            if gradient is not None and not bool(gradient.isfinite().all()):
                raise UsageError(f"a gradient is not finite after {self.done} steps of the probe; lower the rate")
        self.reached |= {key for key, each in self.parts.items() if any(p.grad is not None for p in each)}
        share = (self.done + 1) / self.steps
        factor = min(1.0, share / WARM_UP) * 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.step()
        self.done += 1


def part_of(name: str) -> str:
    """The part of a switchable layer that its new parameter called ``name`` belongs to."""
    return CONTEXTS if name.startswith(("pre_context.", "post_context.")) else BRANCHES


@dataclass
class Movement:
    """Sums of squares over the outputs of a layer."""

    plain: float = 0.0
    by_branches: float = 0.0
    by_contexts: float = 0.0

    def share(self, part: str) -> float:
        """How far a part moves the output, relative to that of the plain convolution, in the 2-norm."""
        moved = self.by_contexts if part == CONTEXTS else self.by_branches
        return math.sqrt(moved / self.plain) if self.plain > 0 and math.isfinite(moved) else 0.0


@contextmanager
def watching(layers: Mapping[str, SAConv2d]) -> Iterator[dict[str, Movement]]:
    """Inside, what the layers compute is compared with what they would compute without contexts, and without branches too."""
    found = {path: Movement() for path in layers}
    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(_watched(layer, found[path]))
        yield found


@contextmanager
def _watched(layer: SAConv2d, sums: Movement) -> Iterator[None]:
    blended: Callable[[Tensor], Tensor] = layer.blended

    def watch(x: Tensor) -> Tensor:
        y = blended(x)
        with torch.no_grad():
            kernel = layer.standardised_weight().to(layer.weight.dtype)
            plain = layer._conv_forward(x.detach(), kernel, layer.bias)
            without = layer._blend(x.detach(), guarded=False)
            sums.plain += _squares(plain)
            sums.by_branches += _squares(without - plain)
            sums.by_contexts += _squares(y.detach() - without)
        return y

    vars(layer)["blended"] = watch
    try:
        yield
    finally:
        del vars(layer)["blended"]


def _squares(t: Tensor) -> float:
    return float(t.double().square().sum())
