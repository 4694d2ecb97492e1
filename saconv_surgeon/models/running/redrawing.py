"""Other values of the same kind: what random inputs to try a model on, given one example.

Floating and complex values are normal, with the example's mean and deviation. Integers and booleans are the example's own values
in another order, so that token ids, classes and masks stay what the model accepts; bytes of images are drawn from their range.
One axis of integers that is in order already (lengths, offsets, positions) stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saconv_surgeon.models.running.nested_values import ATOMS, children, data_in, is_data, is_image, replaced

IMAGE_DIMENSIONS = 3
"""Bytes in so many dimensions, or more, are taken for an image."""


def redrawn_value(value: Any, seed: int, *, floating_only: bool = False) -> Any:
    """A copy of ``value`` with other data, of the same kinds and sizes. What cannot be drawn stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    new = {id(data): _redrawn(data, generator, floating_only) for data in data_in(value)}
    return replaced(value, new)


def _redrawn(data: Any, generator: torch.Generator, floating_only: bool) -> Any:
    if isinstance(data, Tensor):
        return _redrawn_tensor(data, generator, floating_only)
    try:
        drawn = _redrawn_tensor(torch.from_numpy(np.array(data)), generator, floating_only).numpy()
    except TypeError:  # text, or a kind of numbers that torch does not have
        return data
    if not is_image(data):
        return drawn
    made = data.copy()
    if data.mode not in ("1", "P"):  # packed bits, and numbers of colours
        made.frombytes(np.ascontiguousarray(drawn).tobytes())
    return made


def _redrawn_tensor(t: Tensor, generator: torch.Generator, floating_only: bool) -> Tensor:
    if t.is_nested or t.is_meta or t.is_quantized or t.numel() == 0:
        return t.clone()
    if t.layout is torch.sparse_coo:
        values = _redrawn_tensor(t.coalesce().values(), generator, floating_only)
        return torch.sparse_coo_tensor(
            t.coalesce().indices(), values, t.shape, is_coalesced=True, check_invariants=True
        )
    if t.layout is not torch.strided:
        return t.clone()
    try:
        if t.is_complex():
            same = bool((t == t.flatten()[0]).all())
            parts = (_noise(part, generator, least=float(same)) for part in (t.real, t.imag))
            return _normal(t, torch.complex(*parts))
        if t.is_floating_point():
            return _shuffled(t, generator) if _is_mask(t) else _normal(t, _noise(t, generator, least=1.0))
        return t.clone() if floating_only else _redrawn_integers(t, generator)
    except (RuntimeError, NotImplementedError):  # a kind of numbers with which torch cannot calculate
        return t.clone()


def _noise(t: Tensor, generator: torch.Generator, least: float = 0.0) -> Tensor:
    """Normal, of float64 on the CPU; ``least`` is the deviation for values that are all the same."""
    values = torch.nan_to_num(t.detach().cpu().double(), posinf=1.0, neginf=-1.0)
    deviation = float(values.std(correction=0)) or least
    return torch.randn(t.shape, generator=generator, dtype=torch.float64) * deviation + float(values.mean())


def _normal(t: Tensor, noise: Tensor) -> Tensor:
    return torch.empty_like(t).copy_(noise)


def _is_mask(t: Tensor) -> bool:
    """Whether there are zeros and ones, both, and nothing else."""
    return bool(((t == 0) | (t == 1)).all()) and bool((t == 0).any()) and bool((t == 1).any())


def _redrawn_integers(t: Tensor, generator: torch.Generator) -> Tensor:
    if t.dtype is torch.uint8 and t.dim() >= IMAGE_DIMENSIONS:
        low, high = int(t.min()), int(t.max())
        low, high = (0, 255) if low == high else (low, high)
        drawn = torch.randint(low, high + 1, t.shape, generator=generator, dtype=torch.int64)
        return torch.empty_like(t).copy_(drawn)
    return t.clone() if _is_in_order(t) else _shuffled(t, generator)


def _is_in_order(t: Tensor) -> bool:
    """Whether there is one axis, and values only rise or only fall: lengths, offsets, positions."""
    if t.dtype is torch.bool or t.dim() != 1:
        return False
    steps = t[1:].to(torch.int64) - t[:-1].to(torch.int64)
    return bool((steps >= 0).all()) or bool((steps <= 0).all())


def _shuffled(t: Tensor, generator: torch.Generator) -> Tensor:
    """Each row by itself: no row of a mask becomes empty."""
    rows = t.detach() if t.dim() and t.shape[-1] > 1 else t.detach().reshape(1, -1)
    order = torch.rand(rows.shape, generator=generator).argsort(-1).to(t.device)
    return torch.empty_like(t).copy_(rows.gather(-1, order).view(t.shape))


def digest_of(value: Any) -> str:
    """The same for two values only if their data and their plain values (numbers, strings, keys) are the same."""
    return _digest(value, {}).hex()


def _digest(value: Any, known: dict[int, tuple[Any, bytes]]) -> bytes:
    """``known`` has what was met before, by ``id``, and holds on to it: an ``id`` may be given again."""
    if isinstance(value, ATOMS):
        return _hashed(repr(value).encode())
    if id(value) in known:
        return known[id(value)][1]
    known[id(value)] = value, b"itself"
    if isinstance(value, Tensor) and value.is_nested:
        found = _hashed(b"nested", *(_digest(part, known) for part in value.unbind()))
    elif isinstance(value, Tensor):
        found = _hashed(f"{value.dtype} {tuple(value.shape)} ".encode(), _bytes_of(value))
    elif is_data(value):
        what = (type(value).__name__, getattr(value, "dtype", None), getattr(value, "shape", None))
        found = _hashed(repr(what).encode(), _bytes_of(value))
    elif isinstance(value, nn.Module):
        found = b"module"
    else:
        parts = [_digest(child, known) for child in children(value)]
        keys = [repr(key).encode() for key in value] if isinstance(value, Mapping) else []
        found = _hashed(*keys, b"|", *(sorted(parts) if isinstance(value, (set, frozenset)) else parts))
    known[id(value)] = value, found
    return found


def _hashed(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _bytes_of(data: Any) -> bytes:
    if not isinstance(data, Tensor):
        array = np.asarray(data)
        return array.tobytes() if array.dtype != object else repr(array).encode()
    if data.is_meta:
        return b""
    try:
        plain = data.detach().cpu()
        plain = (
            plain.int_repr() if plain.is_quantized else plain.to_dense() if plain.layout is not torch.strided else plain
        )
        return plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    except (RuntimeError, NotImplementedError):
        return repr(data).encode()
