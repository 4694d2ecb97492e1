"""Gradients of large kernels in fewer numbers: random projections of the channels, which keep inner products on average."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_CHANNELS = 32
"""Channels up to here are kept as they are; more are projected to so many."""
SPARE = 7_919


def projection(channels: int, seed: int, most: int = MOST_CHANNELS) -> Tensor | None:
    """(channels, most) with signs of ±1/√most, the same for the same ``seed``; None if nothing has to be projected.

    For P of this kind E[P Pᵀ] = 1, so that inner products of projected vectors are right on average; their variance falls
    with ``most``.
    """
    if channels <= most:
        return None
    generator = torch.Generator().manual_seed(SPARE * seed + channels)
    signs = torch.randint(0, 2, (channels, most), generator=generator) * 2 - 1
    return signs.double() / most**0.5


def projected(t: Tensor, p: Tensor | None) -> Tensor:
    """(…, channels) → (…, most)."""
    return t if p is None else t @ p.to(t)
