"""Images to run a library's models on: how many channels, how large, the same values every time."""

from __future__ import annotations

import torch
from torch import nn

from saconv_surgeon.models.loading.libraries.library import ModelRequest

FALLBACK_SIZE = 224
DETECTION_SIZE = 640
FEWEST_FOLDED = 12
"""Channels of 2×2 pixels in colour."""


def channels_of(model: nn.Module, request: ModelRequest | None, option: str, usual: int) -> int:
    """How many channels an image for ``model`` has: as asked for; for a model from a file, what its first convolution takes.

    That says nothing if the model first folds pixels into channels, which are then twelve or more.
    """
    if request is not None:
        return int(request.options.get(option, usual))
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1), None)
    return first.in_channels if first is not None and first.in_channels < FEWEST_FOLDED else usual


def image(*shape: int) -> torch.Tensor:
    """Normal random values, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
