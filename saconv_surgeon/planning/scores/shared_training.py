"""A training of converted layers in which every step's gain is shared out among the parts that moved."""

from __future__ import annotations

from collections.abc import Iterable, Set

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.scores.candidate_parts import BRANCHES, CONTEXTS

WHOLE = "whole"
"""What the only part of a layer is called that has no contexts and branches."""
Key = tuple[str, str]
"""The path of a layer and one of its parts."""


class SharedTraining:
    """Trains ``model``, in place, with AdamW.

    ``gains`` has, by layer and part, minus the sum over all steps of (what the part moved in a step) · (its gradient on the next
    batch): how much that batch's loss fell by it, to first order. The next batch was not looked at when the step was made, so
    that noise which a part has learnt counts for nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: Iterable[str],
        kept: Set[Key] | None,
        lr: float,
        new_lr: float,
        weight_decay: float,
    ) -> None:
        """Of the converted layers at ``paths``, the parts in ``kept`` (None: all) train at ``new_lr``; the others do not."""
        self.model = model
        self.parts: dict[Key, list[nn.Parameter]] = {}
        new: set[int] = set()
        for path in paths:
            layer = model.get_submodule(path)
            for name, parameter in layer.named_parameters():
                if isinstance(layer, ConvertedLayer) and layer.is_new(name):
                    key = path, part_of(layer, name)
                    new.add(id(parameter))
                    parameter.requires_grad_(kept is None or key in kept)
                    if parameter.requires_grad:
                        self.parts.setdefault(key, []).append(parameter)
        self.old = [p for p in model.parameters() if p.requires_grad and id(p) not in new]
        trained = [p for parameters in self.parts.values() for p in parameters]
        groups = [{"params": trained, "lr": new_lr, "weight_decay": 0.0}]
        if self.old:
            groups.append({"params": self.old, "lr": lr, "weight_decay": weight_decay})
        self.optimizer = torch.optim.AdamW(groups)
        self.sums = dict.fromkeys(self.parts, 0.0)
        self.reached: set[Key] = set()
        self.moved: dict[Key, list[Tensor]] = {}

    @property
    def gains(self) -> dict[Key, float]:
        """Of the parts that the loss depends on."""
        return {key: gain for key, gain in self.sums.items() if key in self.reached}

    def step(self, loss: Tensor) -> None:
        """One step, and the gain of the one before.

        Raises:
            UsageError: A gradient is not finite.
        """
        parameters = [*(p for each in self.parts.values() for p in each), *self.old]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for key, moved in self.moved.items():
            self._share(key, moved)
        self.reached |= {key for key, each in self.parts.items() if any(p.grad is not None for p in each)}
        before = {key: [p.detach().clone() for p in each] for key, each in self.parts.items()}
        self.optimizer.step()
        self.moved = {
            key: [p.detach() - old for p, old in zip(self.parts[key], olds, strict=True)]
            for key, olds in before.items()
        }

    def _share(self, key: Key, moved: Iterable[Tensor]) -> None:
        for parameter, change in zip(self.parts[key], moved, strict=True):
            if parameter.grad is not None:
                self.sums[key] -= float((parameter.grad.double() * change.double()).sum())
        if self.sums[key] != self.sums[key] or abs(self.sums[key]) == float("inf"):
            raise UsageError(
                f"the gradients of {key[0]!r} are not finite after a few steps of the probe; lower the rate"
            )


def part_of(layer: nn.Module, name: str) -> str:
    """The part of ``layer`` that its new parameter called ``name`` belongs to."""
    if not isinstance(layer, SAConv2d):
        return WHOLE
    return CONTEXTS if name.startswith(("pre_context.", "post_context.")) else BRANCHES
