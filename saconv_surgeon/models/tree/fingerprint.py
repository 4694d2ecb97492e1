"""The fingerprint of a model: one hash over everything in its state dict; and one for each plain tensor in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.models.tree.tensor_forms import FormError, is_plain, taken_apart


def fingerprint(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and values of the state dict; the same on every device and memory format.

    Sparse, quantised and packed values count with all their parts; what is neither a tensor nor made of some does not count.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        for key, plain, note in _parts(value, name):
            digest.update(f"{key}|{note or plain.dtype}|{tuple(plain.shape)}|".encode())
            if plain.numel():
                digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensor_digests(model: nn.Module) -> dict[str, str]:
    """sha256 of dtype, shape and values of each plain tensor in the state dict, by key; others have none."""
    return plain_digests(model.state_dict())


def plain_digests(values: Mapping[str, Any]) -> dict[str, str]:
    """As :func:`tensor_digests`, of values by key."""
    return {key: _digest(value) for key, value in values.items() if is_plain(value)}


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype}|{tuple(plain.shape)}|".encode())
    if plain.numel():
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _parts(value: Any, name: str) -> list[tuple[str, Tensor, str]]:
    """What to hash of a value: a dense tensor as it is, anything else taken apart, with what it is made of as a note."""
    if isinstance(value, Tensor) and hasattr(value, "__tensor_flatten__"):  # DTensor and other tensors made of tensors
        held = {key: getattr(value, key) for key in value.__tensor_flatten__()[0]}
        inner = [part for key, item in held.items() for part in _parts(item, f"{name}.{key}")]
        return [(f"{name}|{type(value).__name__}", torch.empty(0), ""), *inner]
    dense = (
        isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized and not value.is_nested
    )
    if dense:
        return [(name, value.detach().resolve_conj().resolve_neg().cpu().contiguous(), "")]
    try:
        form, tensors = taken_apart(value, name)
    except FormError:
        return []
    if not tensors:
        return []
    note = json.dumps(form, sort_keys=True)
    return [(key, plain.cpu().contiguous(), f"{plain.dtype}|{note}") for key, plain in sorted(tensors.items())]
