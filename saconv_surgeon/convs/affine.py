"""What a norm does in inference: one multiplication and one addition per channel."""

from __future__ import annotations

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

        Known are ``nn.BatchNorm2d`` and ``nn.SyncBatchNorm``, and the frozen ones of detectors, which hold the same four tensors.
        """
        state = {**norm._parameters, **norm._buffers}
        mean, var, eps = state.get("running_mean"), state.get("running_var"), getattr(norm, "eps", None)
        if not _is_known(norm) or mean is None or var is None or not isinstance(eps, float):
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


def _is_known(norm: nn.Module) -> bool:
    if "forward" in vars(norm):
        return False
    forward = type(norm).forward
    batch_norm = forward in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)
    return batch_norm or type(norm).__name__ in FROZEN


FROZEN = ("FrozenBatchNorm2d",)
"""As torchvision and detectron2 call it; their libraries may not be here to be asked."""
