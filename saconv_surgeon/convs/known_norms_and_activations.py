"""The norms and activations that this project knows: add one here, and the tables, ``--absorb`` and ``fold`` know it too."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
"""Classes that count as a norm. A class of another library does if its name ends in ``Norm`` or ``Norm2d``."""
NORM_FUNCTIONS = frozenset({"batch_norm", "group_norm", "layer_norm", "instance_norm"})
ACTIVATION_FUNCTIONS = frozenset(
    "relu relu_ relu6 leaky_relu leaky_relu_ prelu elu elu_ selu celu gelu silu mish softplus sigmoid sigmoid_ tanh tanh_ "
    "hardswish hardsigmoid hardtanh clamp".split()
)
ACTIVATIONS = "torch.nn.modules.activation"
"""Every class of this module counts as an activation, except attention."""

FROZEN_BATCH_NORMS = {"FrozenBatchNorm2d": ("torchvision.", "detectron2.")}
"""By name, since the libraries that define them may not be installed, with these libraries."""
BATCH_NORMS_WITH_ACTIVATION = dict.fromkeys(("BatchNormAct2d", "SyncBatchNormAct", "FrozenBatchNormAct2d"), ("timm.",))
"""Batch norms that pass their result through ``drop`` and then ``act``, their only submodules."""


def is_norm(module: nn.Module) -> bool:
    """Whether ``module`` counts as a norm."""
    return stays_whole(module) or type(module).__name__.endswith(("Norm", "Norm2d"))


def is_activation(module: nn.Module) -> bool:
    """Whether ``module`` counts as an activation."""
    return type(module).__module__ == ACTIVATIONS and not isinstance(module, nn.MultiheadAttention)


def stays_whole(module: nn.Module) -> bool:
    """Whether ``module`` is one step in a trace, even if it is a class of another library."""
    return isinstance(module, NORMS) or is_batch_norm(module)


def is_batch_norm(module: nn.Module) -> bool:
    """Whether ``module`` computes, in eval mode, what a batch norm computes: its class is known and its forward unchanged."""
    plain = type(module).forward in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
    known = plain or _is_of(module, FROZEN_BATCH_NORMS) or has_activation(module)
    return known and "forward" not in vars(module) and type(module).__call__ is nn.Module.__call__


def has_activation(norm: nn.Module) -> bool:
    """Whether ``norm`` is a batch norm with an activation inside."""
    return _is_of(norm, BATCH_NORMS_WITH_ACTIVATION)


def _is_of(module: nn.Module, known: Mapping[str, tuple[str, ...]]) -> bool:
    return type(module).__module__.startswith(known.get(type(module).__name__, ("\0",)))
