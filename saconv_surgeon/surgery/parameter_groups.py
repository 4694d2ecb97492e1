"""``parameter_groups``: what an optimiser is given so that new parts train at a rate of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.tree.parameter_kinds import (
    KINDS,
    NEW_LR,
    NEW_PARTS,
    NEW_WEIGHT_DECAY,
    check_new_lr,
    is_number,
    parameter_kinds,
)
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.models.tree.wrappers import unwrapped


@one_at_a_time
@with_room
def parameter_groups(
    model: nn.Module,
    *,
    lr: float | Tensor,
    weight_decay: float | None = None,
    new_lr: float = NEW_LR,
    new_weight_decay: float = NEW_WEIGHT_DECAY,
) -> list[dict[str, Any]]:
    """The parameters of ``model`` in up to three groups, for any optimiser of torch: ``AdamW(parameter_groups(model, lr=1e-3))``.

    ========== =============================================== ============= ====================
    name       parameters                                      learning rate weight decay
    ========== =============================================== ============= ====================
    kernels    everything that is not in the other two         lr            weight_decay
    norms      norms, biases, and other vectors and scalars    lr            0
    new parts  what the conversion added                       lr · new_lr   new_weight_decay
    ========== =============================================== ============= ====================

    Each group is a dict with ``params``, ``param_names``, ``name``, ``lr`` and ``weight_decay``; an optimiser keeps all of
    them. Each parameter is in one group, also if several modules share it, in the order of ``named_parameters()``. Parameters
    with ``requires_grad=False`` and groups without parameters are left out. ``model`` is not modified; it may be unconverted, or
    wrapped (``DataParallel``, ``torch.compile`` …): the names are those of the model inside.

    To add a group of your own, name its parameters: torch wants all groups named or none
    (``{"params": loss.named_parameters()}``).

    Args:
        model: Any module.
        lr: The learning rate of everything that was there before. A tensor, as capturable optimisers take it, is copied for each
            group.
        weight_decay: That of the kernels. None leaves it to the optimiser; the other groups keep theirs.
        new_lr: The learning rate of new parts is this many times ``lr``.
        new_weight_decay: That of new parts.

    Raises:
        UsageError: A rate or a decay is not a finite number, is negative, or ``new_lr`` is zero.
        ModelError: ``model`` is not a module.
    """
    inner = unwrapped(model)
    check_new_lr(new_lr)
    _check_rate(lr)
    for option, value in (("weight_decay", weight_decay), ("new_weight_decay", new_weight_decay)):
        if not (value is None and option == "weight_decay") and not is_number(value, lowest=0.0):
            raise UsageError(f"{option} is {value!r}; give a finite number that is not negative, such as 1e-4")
    lr = lr if isinstance(lr, Tensor) else float(lr)
    rates: dict[str, Any] = {NEW_PARTS: lr * float(new_lr)}
    decays: dict[str, float | None] = {"kernels": weight_decay, "norms": 0.0, NEW_PARTS: new_weight_decay}
    kinds = parameter_kinds(inner)
    groups: list[dict[str, Any]] = []
    for kind in KINDS:
        named = [
            (name, parameter)
            for name, parameter in inner.named_parameters()
            if kinds[name] == kind and parameter.requires_grad
        ]
        if not named:
            continue
        rate = rates.get(kind, lr)
        group = {
            "params": [parameter for _, parameter in named],
            "param_names": [name for name, _ in named],
            "name": kind,
            "lr": rate.clone() if isinstance(rate, Tensor) else rate,
        }
        decay = decays[kind]
        groups.append(group if decay is None else {**group, "weight_decay": decay})
    return groups


def _check_rate(lr: Any) -> None:
    one = isinstance(lr, Tensor) and lr.numel() == 1 and lr.is_floating_point()
    if one and (lr.is_meta or bool(torch.isfinite(lr).all() & (lr >= 0).all())):
        return
    if isinstance(lr, Tensor) or not is_number(lr, lowest=0.0):
        raise UsageError(f"lr is {lr!r}; give a finite number that is not negative, such as 1e-3, or a tensor with one")
