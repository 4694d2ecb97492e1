"""A part of a larger model that is converted while the whole is trained: where it is, and what the optimiser keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.surgery.new_parts_group import split_new_parts
from saconv_surgeon.surgery.optimizer import carry_optimizer


def part_of(model: nn.Module, name: str) -> nn.Module:
    """The part of ``model`` that is called ``name``; dots go deeper.

    Raises:
        UsageError: There is none of that name.
    """
    try:
        found: nn.Module = model.get_submodule(name)
    except AttributeError:
        found = model
    if found is model:
        children = ", ".join(child for child, _ in model.named_children())
        raise UsageError(f"{type(model).__name__} has no part {name!r} to convert; give network=…, one of: {children}")
    return found


def carry_part(
    optimizer: torch.optim.Optimizer,
    whole: nn.Module,
    before: nn.Module,
    after: nn.Module,
    *,
    new_lr: float,
    new_weight_decay: float,
    schedulers: Iterable[Any],
) -> None:
    """Makes an optimiser that trains ``before`` one that trains ``after``, in place, with a group for new parts.

    One that has no parameter of ``before`` is left as it was.

    Args:
        optimizer: Of parameters of ``before``, and perhaps of the rest of ``whole``.
        whole: The model, in which ``after`` has taken the place of ``before``.
        before: The part before.
        after: The part after.
        new_lr: See :func:`~saconv_surgeon.carry_optimizer`.
        new_weight_decay: See there.
        schedulers: See there.

    Raises:
        UsageError: See there.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in before.parameters()):
        return
    own = {id(parameter) for parameter in after.parameters()}
    rest = _Rest([parameter for parameter in whole.parameters() if id(parameter) not in own])
    carry_optimizer(optimizer, _Beside(before, rest), _Beside(after, rest))
    split_new_parts(optimizer, after, new_lr=new_lr, new_weight_decay=new_weight_decay, schedulers=schedulers)


class _Rest(nn.Module):
    """What is the same before and after."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.kept = nn.ParameterList(parameters)


class _Beside(nn.Module):
    """The part, and the rest."""

    def __init__(self, part: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.part, self.rest = part, rest
