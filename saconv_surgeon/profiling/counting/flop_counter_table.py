"""The table of operations as ``FlopCounterMode`` wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from saconv_surgeon.profiling.counting.free_operations import FREE
from saconv_surgeon.profiling.counting.operation_table import FORMULAS, Formula
from saconv_surgeon.profiling.counting.shape_formulas import Cost, Shape

Add = Callable[[Cost], None]


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors among arguments or results of an operation."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


@dataclass(frozen=True)
class _Call:
    """A call that was carried out as an :class:`~saconv_surgeon.profiling.counting.operation_table.Operation`."""

    args: tuple[Any, ...]
    result: Any

    @property
    def out(self) -> Shape:
        first = self._first
        return tuple(first.shape) if first is not None else ()

    @property
    def is_floating(self) -> bool:
        return self._first is not None and _is_floating(self._first)

    def shape(self, i: int) -> Shape:
        return tuple(self.args[i].shape) if self.has_tensor(i) else ()

    def shapes(self, i: int) -> list[Shape]:
        given = self.args[i] if i < len(self.args) else None
        return [tuple(t.shape) for t in given if isinstance(t, Tensor)] if isinstance(given, (list, tuple)) else []

    def value(self, i: int) -> Any:
        return self.args[i] if i < len(self.args) else None

    def has_tensor(self, i: int) -> bool:
        return i < len(self.args) and isinstance(self.args[i], Tensor)

    def takes_floating(self, i: int) -> bool:
        return self.has_tensor(i) and _is_floating(self.args[i])

    @property
    def _first(self) -> Tensor | None:
        return next(iter(tensors_in(self.result)), None)


def _is_floating(t: Tensor) -> bool:
    return t.is_floating_point() or t.is_complex()


def _packets() -> dict[Any, Formula | None]:
    """Every operation of the table that torch has now, with its formula; None if it is free.

    Not remembered: libraries that are imported later, as torchvision often is, bring their own.
    """
    found: dict[Any, Formula | None] = {}
    for name, formula in ({**dict.fromkeys(FREE), **FORMULAS}).items():
        namespace, _, short = name.rpartition("::")
        packet = getattr(getattr(torch.ops, namespace or "aten"), short, None)
        if packet is not None:
            found[packet] = formula
    return found


def custom_mapping(add: Add) -> dict[Any, Callable[..., int]]:
    """For ``FlopCounterMode``: by packet, to be counted, and by overload, to be counted whole instead of taken apart.

    ``add`` is called with every cost.
    """
    mapping: dict[Any, Callable[..., int]] = {}
    for packet, formula in _packets().items():
        count = _counting(formula, add)
        mapping[packet] = count
        mapping |= {getattr(packet, overload): count for overload in packet.overloads()}
    return mapping | {op: _as_torch_counts(f, add) for op, f in flop_registry.items() if op not in mapping}


def _counting(formula: Formula | None, add: Add) -> Callable[..., int]:
    def count(*args: Any, out_val: Any, **kwargs: Any) -> int:
        if formula is None:
            return 0
        cost = formula(_Call(args, out_val))
        add(cost)
        return cost.flops

    count._get_raw = True  # type: ignore[attr-defined]  # how FlopCounterMode is told to hand over tensors, not shapes
    return count


def _as_torch_counts(formula: Callable[..., int], add: Add) -> Callable[..., int]:
    """What this table does not have and torch's has: kernels of attention and products of 8-bit matrices."""

    def count(*args: Any, out_val: Any, **kwargs: Any) -> int:
        flops = formula(*args, out_val=out_val, **kwargs)
        add(Cost(macs=flops // 2))
        return flops

    count._get_raw = True  # type: ignore[attr-defined]
    return count
