"""How models are trained on: the optimizer, and how new parts differ from the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

import saconv_surgeon as surgeon

MOMENTUM = 0.9
DECAY = {"adamw": 0.05, "sgd": 5e-4}


@dataclass(frozen=True)
class Recipe:
    """``new_rate``: the learning rate of new parts as a multiple of that of the others. ``new_decay``: decay them as well."""

    optimizer: str
    new_rate: float = 1.0
    new_decay: bool = False

    @property
    def name(self) -> str:
        """As in ``adamw-x3``."""
        return f"{self.optimizer}-x{self.new_rate:g}{'-decay' if self.new_decay else ''}"

    @property
    def plain(self) -> Recipe:
        """The recipe by which a model without new parts is trained with the same optimizer."""
        return Recipe(self.optimizer)


def parsed(name: str) -> Recipe:
    """The recipe of a name."""
    optimizer, rate, *rest = name.split("-")
    return Recipe(optimizer, float(rate.removeprefix("x")), bool(rest))


def optimizer_of(model: nn.Module, recipe: Recipe, rate: float) -> torch.optim.Optimizer:
    """Over all parameters of ``model``, in the groups of ``surgeon.parameter_groups``."""
    decay = DECAY[recipe.optimizer]
    groups = surgeon.parameter_groups(
        model,
        lr=rate,
        weight_decay=decay,
        new_lr=recipe.new_rate,
        new_weight_decay=decay if recipe.new_decay else 0.0,
    )
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=MOMENTUM)
    return torch.optim.AdamW(groups, rate)
