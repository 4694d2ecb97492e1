"""``GlobalContext``: a linear layer on the mean of a map, as a part of a switchable convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalContext(nn.Conv2d):
    """A g + a for g = GAP(x), the mean of a map: (N, C, 1, 1) → (N, C, 1, 1).

    Arguments and state dict are those of a 1×1 convolution, as published. On one pixel that is a linear layer, which a CPU
    computes two to nine times faster.

    Args:
        channels: C.
        **where: Device and dtype.

    Source: DetectoRS (arXiv 2006.02334), section 4.2.
    """

    def __init__(self, channels: int, **where: Any) -> None:
        super().__init__(channels, channels, 1, **where)

    def reset_parameters(self) -> None:
        """See ``nn.Conv2d``; skipped on the meta device, where drawing nothing takes torch 0.1 ms."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, 1, 1) → (N, C, 1, 1)."""
        return F.linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]

    def of_sum(self, total: Tensor, count: int) -> Tensor:
        """A g + a for the sum of ``count`` pixels, (N, C) → (N, C), in one operation instead of six."""
        kernel = self.weight.flatten(1)
        if self.bias is None:
            return F.linear(total / count, kernel)
        return torch.addmm(self.bias, total, kernel.t(), alpha=1.0 / count)
