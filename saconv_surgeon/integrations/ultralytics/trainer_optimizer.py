"""Groups for new parts in the optimisers that Ultralytics' trainers build."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from saconv_surgeon.models.tree.parameter_kinds import NEW_PARTS, NEW_WEIGHT_DECAY, new_parameters

Group = dict[str, Any]


def split_new_parts(optimizer: torch.optim.Optimizer, model: nn.Module, new_lr: float) -> None:
    """Moves what surgery added to ``model`` from the groups of a new ``optimizer`` to groups of their own, in place.

    They come last and are labelled as neither biases nor kernels. Trainers know the biases' group, whose rate falls during
    warm-up while the others rise from 0, by its label or, in older versions, by its place; that of the kernels, whose decay
    they set again when the batch size changes, by its label. New parts whose groups agree in everything else (with SGD and
    AdamW all of them) share one.
    """
    new = {id(parameter) for parameter in new_parameters(model)}
    added: list[Group] = []
    for group in optimizer.param_groups:
        mine = [parameter for parameter in group["params"] if id(parameter) in new]
        if not mine:
            continue
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in new]
        settings = {key: value for key, value in group.items() if key != "params"} | {
            "name": NEW_PARTS,
            "param_group": NEW_PARTS,
            "lr": group["lr"] * new_lr,
            "weight_decay": NEW_WEIGHT_DECAY,
        }
        alike = next((other for other in added if {**other, "params": None} == {**settings, "params": None}), None)
        if alike is None:
            added.append({**settings, "params": mine})
        else:
            alike["params"] += mine
    for group in added:
        optimizer.add_param_group(group)
