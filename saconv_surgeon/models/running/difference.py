"""How far apart two outputs of any nesting are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Leaf = tuple[str, Any]


@dataclass(frozen=True)
class Difference:
    """``max_rel`` is max|a-b| / max|a| per tensor, the worst of them; infinite if there is no finite value.

    ``problems`` names what has no distance: structures, shapes, integers, strings, NaN and infinities that differ.
    """

    bit_equal: bool = True
    max_abs: float = 0.0
    max_rel: float = 0.0
    tensors: int = 0
    problems: tuple[str, ...] = ()

    def __or__(self, other: Difference) -> Difference:
        """The worse of both."""
        return Difference(
            self.bit_equal and other.bit_equal,
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            max(self.tensors, other.tensors),
            tuple(dict.fromkeys(self.problems + other.problems)),
        )

    def within(self, tolerance: float) -> bool:
        """Whether no difference exceeds ``tolerance``, relative."""
        return not self.problems and self.max_rel <= tolerance


def compare(a: Sequence[Leaf], b: Sequence[Leaf]) -> Difference:
    """Compares the leaves of two outputs, ``a`` being the reference.

    Integers, booleans, strings and None must be the same; NaN equals only NaN and an infinity only itself.
    """
    names_a, names_b = [name for name, _ in a], [name for name, _ in b]
    if names_a != names_b:
        return _problem(_structure_problem(names_a, names_b))
    worst = Difference()
    for (name, left), (_, right) in zip(a, b, strict=True):
        worst |= _compare_leaf(name, left, right)
    tensors = sum(isinstance(leaf, Tensor) for _, leaf in a)
    return Difference(worst.bit_equal, worst.max_abs, worst.max_rel, tensors, worst.problems)


def agreement(a: Sequence[Leaf], b: Sequence[Leaf], samples: int | None) -> tuple[int, int]:
    """How often the largest value along the second axis is at the same index, and out of how many.

    Of the first floating output, (N, C) or (N, C, H, W) with N = ``samples``: of an image, or of a pixel. Others: (0, 0). If
    there is a NaN, nothing is the largest.
    """
    left, right = (
        next((leaf for _, leaf in computable(side) if isinstance(leaf, Tensor) and leaf.is_floating_point()), None)
        for side in (a, b)
    )
    if left is None or right is None or left.shape != right.shape:
        return 0, 0
    if left.dim() not in (2, 4) or left.shape[0] != samples or left.shape[1] < 2:
        return 0, 0
    right = right.to(left.device)
    same = (left.argmax(1) == right.argmax(1)) & ~(left.isnan() | right.isnan()).any(1)
    return int(same.sum()), same.numel()


def computable(leaves: Sequence[Leaf]) -> list[Leaf]:
    """The leaves with every tensor dense and in a dtype that torch computes with; the values are the same."""
    return [(name, _computable(_dense(leaf)) if isinstance(leaf, Tensor) else leaf) for name, leaf in leaves]


def _compare_leaf(name: str, a: Any, b: Any) -> Difference:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _compare_tensors(name, _dense(a), _dense(b))
    if type(a) is not type(b):
        return _problem(f"{name}: {type(a).__name__} became {type(b).__name__}")
    if isinstance(a, (float, complex)):
        dtype = torch.complex128 if isinstance(a, complex) else torch.float64
        return _compare_tensors(name, torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype))
    return Difference() if a == b else _problem(f"{name}: {a!r:.40} became {b!r:.40}")


def _compare_tensors(name: str, a: Tensor, b: Tensor) -> Difference:
    if a.shape != b.shape or a.dtype != b.dtype:
        return _problem(f"{name}: {_kind(a)} became {_kind(b)}")
    a, b = _computable(a), _computable(b)
    if not (a.is_floating_point() or a.is_complex()):
        different = int((a != b).sum())
        return (
            _problem(f"{name}: {different} of {a.numel()} values differ, compared exactly")
            if different
            else Difference()
        )
    same = (a == b) | (a.isnan() & b.isnan())
    if bool(same.all()):
        return Difference()
    finite = a.isfinite() & b.isfinite()
    if bool((~finite & ~same).any()):
        return _problem(f"{name}: {int((~finite & ~same).sum())} values are NaN or infinite on one side only")
    exact = torch.complex128 if a.is_complex() else torch.float64
    left, right = a[finite].to(exact), b[finite].to(exact)
    largest, scale = float((left - right).abs().max()), float(left.abs().max())
    return Difference(False, largest, largest / scale if scale else math.inf)


def _dense(t: Tensor) -> Tensor:
    t = t.dequantize() if t.is_quantized else t
    return t.to_dense() if t.layout != torch.strided else t


def _computable(t: Tensor) -> Tensor:
    """In a dtype that torch computes with, exactly: it can do little with eight bits, and with complex numbers of sixteen."""
    if t.is_complex():
        return t.to(torch.complex64) if t.dtype == torch.complex32 else t
    return t.float() if t.is_floating_point() and t.element_size() == 1 else t


def _kind(t: Tensor) -> str:
    return f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}"


def _structure_problem(a: Iterable[str], b: Iterable[str]) -> str:
    missing, added = [n for n in a if n not in set(b)], [n for n in b if n not in set(a)]
    gone = f"lacks {missing[0]}" if missing else ""
    new = f"has {added[0]} besides" if added else ""
    return f"the structure of the output changed: it {' and '.join(filter(None, (gone, new))) or 'has another order'}"


def _problem(text: str) -> Difference:
    return Difference(bit_equal=False, max_abs=math.inf, max_rel=math.inf, problems=(text,))
