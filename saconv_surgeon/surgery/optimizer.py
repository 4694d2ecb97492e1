"""Surgery in the middle of a training: the optimiser's state goes along."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.tree.absorbed_modules import absorbed_places
from saconv_surgeon.models.tree.parameter_kinds import NEW_PARTS, NEW_WEIGHT_DECAY, new_parameters
from saconv_surgeon.models.tree.paths import joined
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.surgery.new_parts_group import check_can_split, split_new_parts


@one_at_a_time
@with_room
def carry_optimizer(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    operated: nn.Module,
    *,
    new_lr: float | None = None,
    new_weight_decay: float = NEW_WEIGHT_DECAY,
    schedulers: Iterable[Any] = (),
) -> None:
    """Makes an optimiser of ``model``'s parameters one of ``operated``'s, in place; its state for each parameter is kept.

    ``operated`` is ``model`` after :func:`~saconv_surgeon.convert`, :func:`~saconv_surgeon.apply` or
    :func:`~saconv_surgeon.revert`. A parameter that both have under the same name keeps its group, its place in it and its
    state (momentum, moments, step). A new parameter joins, without state, the group that is called ``"new parts"``, as
    :func:`~saconv_surgeon.parameter_groups` calls it, or else that of its layer's other parameters, the kernel's first, and comes
    directly after them: a new optimiser over ``operated.parameters()`` has the same order, so that its ``load_state_dict`` fits.
    Parameters that no longer exist are dropped; one of another size or scale (a kernel that was widened or doubled) begins
    without state. The number of groups and their settings stay, and with them any learning-rate
    scheduler; a group that lost all of its parameters stays, empty.

    With ``new_lr``, new parts get a group ``"new parts"`` of their own, the last, unless there is one: at ``new_lr`` times the
    rate of the group that most of them would have joined, with its other settings.

    Args:
        optimizer: Of the parameters of ``model``.
        model: The model before.
        operated: The model after.
        new_lr: See above; None makes no group.
        new_weight_decay: That of this group, if the optimiser knows weight decay.
        schedulers: The learning-rate schedulers of ``optimizer``, which go on with one group more, in place.

    Raises:
        UsageError: The optimiser holds parameters that are not ``model``'s, or keeps them in a way that cannot be exchanged
            (LBFGS), a scheduler cannot go on with another group, or ``new_lr`` is no rate; nothing is changed then.
    """
    schedulers = list(schedulers)
    if new_lr is not None:
        check_can_split(optimizer, new_lr, schedulers)
    if hasattr(optimizer, "_params"):
        raise UsageError(
            f"{type(optimizer).__name__} keeps its parameters, and one state for all of them, to itself; "
            "make a new one for the converted model"
        )
    after = dict(unwrapped(operated).named_parameters())
    before = _as_named_in(unwrapped(model), unwrapped(operated))
    names = {id(parameter): name for name, parameter in before.items()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = sum(id(parameter) not in names for parameter in held)
    if strangers:
        raise UsageError(
            f"{strangers} of the optimiser's {len(held)} parameters do not belong to the model that it was said to train; "
            "give the model that the optimiser was made for"
        )
    group_of = {
        names[id(parameter)]: i for i, group in enumerate(optimizer.param_groups) for parameter in group["params"]
    }
    new_group = next((i for i, group in enumerate(optimizer.param_groups) if group.get("name") == NEW_PARTS), None)
    added = {id(parameter) for parameter in new_parameters(unwrapped(operated))}
    for name, group in list(_places_of_new(after, before, group_of)):
        group_of[name] = group if new_group is None or id(after[name]) not in added else new_group
    order = {name: i for i, name in enumerate(after)}
    states = {
        names[id(parameter)]: optimizer.state.pop(parameter) for parameter in held if parameter in optimizer.state
    }
    for i, settings in enumerate(optimizer.param_groups):
        old = [names[id(parameter)] for parameter in settings["params"]]
        new = _in_order(old, after, before, group_of, i, order)
        settings["params"] = [after[name] for name in new]
        if "param_names" in settings:
            settings["param_names"] = new
    rescaled = _rescaled_kernels(model) ^ _rescaled_kernels(operated)
    for name, learnt in states.items():
        if name in after and name not in rescaled and before[name].shape == after[name].shape:
            optimizer.state[after[name]] = learnt
    if new_lr is not None:
        split_new_parts(optimizer, operated, new_lr=new_lr, new_weight_decay=new_weight_decay, schedulers=schedulers)


def _rescaled_kernels(model: nn.Module) -> set[str]:
    """The names of the kernels that are not those of the convolutions that their layers were made from."""
    layers = ((path, m) for path, m in unwrapped(model).named_modules() if isinstance(m, ConvertedLayer))
    return {joined(path, "weight") for path, layer in layers if not layer.keeps_kernel}


def _as_named_in(model: nn.Module, operated: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of ``model`` under the names that ``operated`` has for them: those of an absorbed norm moved along."""
    moves = {old: new for new, old in absorbed_places(operated).items()}
    moves |= absorbed_places(model)
    kept = {name for name, _ in operated.named_parameters()}

    def moved(name: str) -> str:
        place = next((place for place in moves if name.startswith(f"{place}.")), None)
        return name if name in kept or place is None else moves[place] + name.removeprefix(place)

    return {moved(name): parameter for name, parameter in model.named_parameters()}


def _places_of_new(
    after: dict[str, nn.Parameter], before: dict[str, nn.Parameter], group_of: dict[str, int]
) -> Iterable[tuple[str, int]]:
    """The group of every new parameter: that of its layer's kernel, or of another trained parameter of the layer."""
    for name, parameter in after.items():
        if name in before or not parameter.requires_grad:
            continue
        layer = _layer_of(name, before)
        beside = [f"{layer}weight", f"{layer}bias"]
        found = next((group_of[other] for other in beside if other in group_of), None)
        if found is not None:
            yield name, found


def _layer_of(name: str, before: dict[str, nn.Parameter]) -> str:
    """The prefix of the layer that a new parameter is part of: the innermost module above it that had a kernel before."""
    prefix = name
    while prefix:
        prefix = prefix.rpartition(".")[0]
        start = f"{prefix}." if prefix else ""
        if f"{start}weight" in before:
            return start
    return ""


def _in_order(
    old: list[str],
    after: dict[str, nn.Parameter],
    before: dict[str, nn.Parameter],
    group_of: dict[str, int],
    group: int,
    order: dict[str, int],
) -> list[str]:
    """The names in the order of the converted model, if the old ones were in the order of the old model.

    Otherwise the old names stay in their own order, each layer's new ones directly after its last old one.
    """
    kept = [name for name in old if name in after]
    added = sorted((name for name, i in group_of.items() if i == group and name not in before), key=order.__getitem__)
    if old == [name for name in before if name in set(old)]:
        return sorted([*kept, *added], key=order.__getitem__)
    for name in reversed(added):
        kept.insert(_place_after(_layer_of(name, before), old, kept), name)
    return kept


def _place_after(layer: str, old: list[str], kept: list[str]) -> int:
    """The index in ``kept`` after the kernel and bias of a layer, or after what came before them if they no longer exist.

    The end, if neither was in the group.
    """
    last = max((i for i, name in enumerate(old) if name in (f"{layer}weight", f"{layer}bias")), default=len(old) - 1)
    before = next((name for name in reversed(old[: last + 1]) if name in kept), None)
    return 0 if before is None else kept.index(before) + 1
