"""A group of their own for new parts in an optimiser that is there already, and in the schedulers of its rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.tree.parameter_kinds import (
    NEW_LR,
    NEW_PARTS,
    NEW_WEIGHT_DECAY,
    check_new_lr,
    new_parameters,
)
from saconv_surgeon.models.tree.wrappers import unwrapped

RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""Settings of a group that are rates, its own or those that schedulers keep there."""
LISTS_OF_RATES = ("base_lrs", "_last_lr", "min_lrs", "max_lrs")
"""What schedulers keep of each group, to be multiplied."""
OTHER_LISTS = ("lr_lambdas", "base_momentums", "max_momentums")
LISTS_OF_ANYTHING = ("base_values", "_last_value")
"""What schedulers of mmengine keep of each group: rates, if that is what the scheduler is for (``param_name``)."""
"""What they keep of each group, to be taken over."""


def split_new_parts(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    new_lr: float = NEW_LR,
    new_weight_decay: float = NEW_WEIGHT_DECAY,
    schedulers: Iterable[Any] = (),
) -> None:
    """Gives what surgery added to ``model`` a group called ``"new parts"``, in place, unless ``optimizer`` has one.

    The group comes last, with the settings of the group that most of them were in, times ``new_lr`` if these are rates. Each
    scheduler goes on with one group more. The state of the optimiser is kept.

    Args:
        optimizer: One that has the new parts in some of its groups, as after ``carry_optimizer``.
        model: The converted model.
        new_lr: The rate of the group, relative to that of the group that they were in.
        new_weight_decay: That of the group, if the optimiser knows weight decay.
        schedulers: Of ``optimizer``.

    Raises:
        UsageError: ``new_lr`` is no rate; a scheduler keeps something for each group that this function does not know.
    """
    schedulers = list(schedulers)
    check_can_split(optimizer, new_lr, schedulers)
    if any(group.get("name") == NEW_PARTS for group in optimizer.param_groups):
        return
    new = {id(parameter) for parameter in new_parameters(unwrapped(model))}
    counts = [sum(id(p) in new for p in group["params"]) for group in optimizer.param_groups]
    if not any(counts):
        return
    source = counts.index(max(counts))
    settings = {key: value for key, value in optimizer.param_groups[source].items() if not key.startswith("param")}
    settings |= {key: _times(settings[key], new_lr) for key in RATES if key in settings}
    if "weight_decay" in settings:
        settings["weight_decay"] = new_weight_decay
    members, names = _taken_out(optimizer.param_groups, new)
    group = {**settings, "params": members, "name": NEW_PARTS}
    optimizer.add_param_group(group | ({"param_names": names} if names else {}))
    for scheduler in _each(schedulers):
        _extend(scheduler, source, new_lr)


def check_can_split(optimizer: torch.optim.Optimizer, new_lr: float, schedulers: Iterable[Any]) -> None:
    """Checks what :func:`split_new_parts` checks; nothing is changed.

    Raises:
        UsageError: See there.
    """
    check_new_lr(new_lr)
    for scheduler in _each(schedulers):
        _check_known(scheduler, len(optimizer.param_groups))


def _taken_out(groups: Sequence[dict[str, Any]], new: set[int]) -> tuple[list[nn.Parameter], list[str]]:
    """The new parts of all groups, which lose them, and their names if groups have names."""
    members: list[nn.Parameter] = []
    names: list[str] = []
    for group in groups:
        mine = [i for i, parameter in enumerate(group["params"]) if id(parameter) in new]
        members += [group["params"][i] for i in mine]
        if "param_names" in group:
            names += [group["param_names"][i] for i in mine]
            group["param_names"] = [name for i, name in enumerate(group["param_names"]) if i not in set(mine)]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in new]
    return members, names


def _each(schedulers: Iterable[Any]) -> Iterable[Any]:
    """The schedulers, with those that they are made of."""
    for scheduler in schedulers:
        yield scheduler
        yield from _each(getattr(scheduler, "_schedulers", ()))


def _check_known(scheduler: Any, groups: int) -> None:
    known = {*LISTS_OF_RATES, *OTHER_LISTS, *LISTS_OF_ANYTHING}
    strange = [
        name
        for name, value in vars(scheduler).items()
        if isinstance(value, list) and len(value) == groups > 1 and name not in known and not name.startswith("_")
    ]
    if strange:
        raise UsageError(
            f"{type(scheduler).__name__} keeps {strange[0]!r} for each group of the optimiser, which cannot be carried on; "
            "make the scheduler after the conversion"
        )


def _extend(scheduler: Any, source: int, new_lr: float) -> None:
    for name in LISTS_OF_RATES:
        values = getattr(scheduler, name, None)
        if isinstance(values, list) and len(values) > source:
            values.append(_times(values[source], new_lr))
    for name in (*OTHER_LISTS, *LISTS_OF_ANYTHING):
        values = getattr(scheduler, name, None)
        is_rate = name in LISTS_OF_ANYTHING and getattr(scheduler, "param_name", None) == "lr"
        if isinstance(values, list) and len(values) > source:
            values.append(_times(values[source], new_lr) if is_rate else values[source])


def _times(rate: Any, factor: float) -> Any:
    return rate.clone() * factor if isinstance(rate, Tensor) else rate * factor
