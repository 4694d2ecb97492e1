"""What a norm does in inference: one multiplication and one addition per channel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Affine:
    """``scale * y + shift`` for (N, C, H, W); both are (C,) in float64."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: nn.Module) -> Affine | None:
        """What ``norm`` computes in eval mode, or None: it is no batch norm, looks at its batch, or does more than that.

        Known are ``nn.BatchNorm2d`` and ``nn.SyncBatchNorm``, the frozen ones of detectors, which hold the same four tensors, and
        timm's, which have an activation behind them; see :func:`remainder`.
        """
        state = {**norm._parameters, **norm._buffers}
        mean, var, eps = state.get("running_mean"), state.get("running_var"), getattr(norm, "eps", None)
        if not is_known(norm) or mean is None or var is None or not isinstance(eps, float):
            return None
        mean, var = mean.detach().double(), var.detach().double()
        weight, bias = state.get("weight"), state.get("bias")
        scale = torch.rsqrt(var + eps) * (1.0 if weight is None else weight.detach().double())
        return cls(scale, (0.0 if bias is None else bias.detach().double()) - mean * scale)

    def kernel(self, weight: Tensor) -> Tensor:
        """(C, …) with every filter multiplied by the scale, rounded once to its dtype."""
        scale = self.scale.reshape(-1, *(1,) * (weight.dim() - 1))
        return (weight.detach().double() * scale).to(weight.dtype)

    def bias(self, bias: Tensor | None) -> Tensor:
        """(C,) in float64: a bias, or none, through the norm."""
        return self.shift if bias is None else self.scale * bias.detach().double() + self.shift

    def into(self, conv: nn.Conv2d, *, shift: bool = True) -> None:
        """Makes ``conv`` compute what it and the norm behind it compute, in place; with ``shift=False`` without the addition."""
        bias = self.bias(conv.bias).to(conv.weight.dtype) if shift else None
        conv.weight = nn.Parameter(self.kernel(conv.weight), requires_grad=False)
        conv.bias = conv.bias if bias is None else nn.Parameter(bias, requires_grad=False)

    def part(self, start: int, stop: int) -> Affine:
        """Of some of the channels."""
        return Affine(self.scale[start:stop], self.shift[start:stop])


def remainder(norm: nn.Module) -> nn.Module:
    """What is left of a norm when its :class:`Affine` has been computed elsewhere; the parts are shared with it."""
    if not _is_of(norm, WITH_ACTIVATION):
        return nn.Identity().train(norm.training)
    parts = OrderedDict((name, part) for name, part in norm.named_children() if not isinstance(part, nn.Identity))
    return (nn.Sequential(parts) if parts else nn.Identity()).train(norm.training)


FROZEN = {"FrozenBatchNorm2d": ("torchvision.", "detectron2.")}
"""Classes that may not be here to be asked, by name, and the libraries that they are of."""
WITH_ACTIVATION = dict.fromkeys(("BatchNormAct2d", "SyncBatchNormAct", "FrozenBatchNormAct2d"), ("timm.",))
"""Those that pass what they normalise through ``drop`` and ``act``, their only parts, in this order."""


def is_known(norm: nn.Module) -> bool:
    """Whether ``norm`` is of a class of which it is known what it computes, and nobody has changed that."""
    plain = type(norm).forward in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
    known = plain or _is_of(norm, FROZEN) or _is_of(norm, WITH_ACTIVATION)
    return known and "forward" not in vars(norm) and type(norm).__call__ is nn.Module.__call__


def _is_of(norm: nn.Module, known: Mapping[str, tuple[str, ...]]) -> bool:
    return type(norm).__module__.startswith(known.get(type(norm).__name__, ("\0",)))
