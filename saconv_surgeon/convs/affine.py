"""What a norm does in inference: one multiplication and one addition per channel."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.known_norms_and_activations import has_activation, is_batch_norm


@dataclass(frozen=True, eq=False)
class Affine:
    """``scale * y + shift`` for y of shape (N, C, H, W); both are (C,) in float64."""

    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, norm: nn.Module) -> Affine | None:
        """What ``norm`` computes in eval mode. None if it is not a known batch norm, or uses the statistics of its batch.

        A norm with an activation inside computes more than this; see :func:`remainder`.
        """
        state = {**norm._parameters, **norm._buffers}
        mean, var, eps = state.get("running_mean"), state.get("running_var"), getattr(norm, "eps", None)
        if not is_batch_norm(norm) or mean is None or var is None or not isinstance(eps, float):
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
        """(C,) in float64: what the norm makes of a bias, or of none."""
        return self.shift if bias is None else self.scale * bias.detach().double() + self.shift

    def into(self, conv: nn.Conv2d, *, shift: bool = True) -> None:
        """Makes ``conv`` compute what it and the norm after it compute, in place; without the addition if ``shift`` is False."""
        bias = self.bias(conv.bias).to(conv.weight.dtype) if shift else None
        conv.weight = nn.Parameter(self.kernel(conv.weight), requires_grad=False)
        conv.bias = conv.bias if bias is None else nn.Parameter(bias, requires_grad=False)

    def part(self, start: int, stop: int) -> Affine:
        """The same for the channels from ``start`` to ``stop`` only."""
        return Affine(self.scale[start:stop], self.shift[start:stop])


def remainder(norm: nn.Module) -> nn.Module:
    """What is left of a norm once its :class:`Affine` has been computed elsewhere. Shares its submodules with ``norm``."""
    if not has_activation(norm):
        return nn.Identity().train(norm.training)
    parts = OrderedDict((name, part) for name, part in norm.named_children() if not isinstance(part, nn.Identity))
    return (nn.Sequential(parts) if parts else nn.Identity()).train(norm.training)
