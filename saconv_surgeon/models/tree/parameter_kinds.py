"""What each parameter of a model is, for its optimiser: a kernel, part of a norm or a bias, or added by surgery."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedParameter

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.known_norms_and_activations import is_norm
from saconv_surgeon.errors import UsageError

Kind = Literal["kernels", "norms", "new parts"]
KINDS: tuple[Kind, ...] = ("kernels", "norms", "new parts")
NEW_PARTS: Kind = "new parts"
NEW_LR = 3.0
"""The learning rate of new parts, relative to that of the kernels. Measured: docs/training.md."""
NEW_WEIGHT_DECAY = 0.0
"""With decay nothing was better, and at rest a switch is 1: decay moves a layer that its gradients leave alone."""


def new_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that surgery added to ``model``, each once: an optimiser group of their own.

    Those that a convolution brought along (kernel and bias), and those of a norm inside the block, are not among them.
    """
    seen: set[int] = set()
    for layer in model.modules():
        if isinstance(layer, ConvertedLayer):
            for name, parameter in layer.named_parameters():
                if layer.is_new(name) and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield parameter


def parameter_kinds(model: nn.Module) -> dict[str, Kind]:
    """The kind of every parameter of ``model``, each once, by the first of its names, in the order of ``named_parameters()``.

    ``"norms"`` are what is usually trained without weight decay: scales and shifts of norms, biases, other vectors and scalars,
    and what ``model.no_weight_decay()`` names or has the attribute ``_no_weight_decay``, as some libraries have it. A parameter
    that several modules share is new if it is new in one of them, and a norm's if it is in one.
    """
    new = {id(parameter) for parameter in new_parameters(model)}
    exempt = _exempt_names(model)
    undecayed = {
        id(parameter)
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if _is_undecayed(module, name, parameter) or (f"{path}.{name}" if path else name) in exempt
    }
    return {
        name: NEW_PARTS if id(parameter) in new else "norms" if id(parameter) in undecayed else "kernels"
        for name, parameter in model.named_parameters()
    }


def _exempt_names(model: nn.Module) -> Collection[str]:
    """What a model itself says, as those of timm do."""
    method = getattr(model, "no_weight_decay", None)
    names = method() if callable(method) else ()
    return set(names)


def _is_undecayed(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    matrices = isinstance(module, (_ConvNd, nn.Linear))
    if "bias" in name.split("_") or getattr(parameter, "_no_weight_decay", False):
        return True
    if is_norm(module) and not matrices:
        return True
    if isinstance(
        parameter, UninitializedParameter
    ):  # it has no size yet; its module is one that torch will make a convolution or a linear layer
        return False
    if name == "weight":
        return parameter.dim() <= 1
    return sum(size > 1 for size in parameter.shape) <= 1  # such as the scale of a layer, (C, 1, 1)


def check_new_lr(new_lr: Any) -> None:
    """Refuses a ratio that is not a finite number above zero.

    Raises:
        UsageError: It is not.
    """
    if not is_number(new_lr, lowest=0.0) or new_lr == 0:
        raise UsageError(
            f"new_lr is {new_lr!r}; give a finite number above 0: the learning rate of new parts is this many times lr "
            "(to hold them still, set requires_grad=False on surgeon.new_parameters(model))"
        )


def is_number(value: Any, *, lowest: float) -> bool:
    """Whether ``value`` is one finite real number, of Python or of an array library, not below ``lowest``."""
    plain = isinstance(value, (int, float)) or hasattr(value, "__float__")
    if isinstance(value, (bool, str, Tensor)) or not plain:
        return False
    return math.isfinite(value) and value >= lowest
