"""The fingerprint of a model: one hash over everything in its state dict."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def fingerprint(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and values of the state dict; the same on every device and memory format."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
            if plain.numel():
                digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
