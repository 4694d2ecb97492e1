"""The first run of a program that nobody vouches for: each operator's arguments, memory and work are looked at before it runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from saconv_surgeon.errors import UntrustedError
from saconv_surgeon.models.exported.operator_checks import problem_of
from saconv_surgeon.models.running.inputs import Inputs

LEAST_MEMORY = 4 << 30
"""Bytes that any program may have at one time."""
MOST_GROWTH = 64
"""How many times as much as its weights and inputs a larger one may have."""
MOST_WORK = 10**13
"""Floating-point operations of one operator: minutes on two cores."""
LONGEST = 600.0
"""Seconds for all of them."""
LIKE_THEIR_INPUT = frozenset(
    f"aten::{name}"
    for name in (
        "native_layer_norm",
        "_softmax",
        "_log_softmax",
        "clone",
        "_to_copy",
        "native_dropout",
        "cumsum",
        "roll",
    )
)
"""Operators whose result has as many values as their input, and some statistics."""
_WIDEST = 16
"""Bytes of the largest number that there is."""


def run_guarded(model: nn.Module, inputs: Inputs, name: str) -> Any:
    """What ``model`` gives for ``inputs``. Its operators are checked, each before it is run; ``name`` is for messages.

    Raises:
        UntrustedError: One takes arguments that it does not check itself, or asks for memory or time beyond all reason.
    """
    held = [*model.parameters(), *model.buffers(), *pytree.tree_leaves((inputs.args, inputs.kwargs))]
    given = sum(_bytes_of(t) for t in held if isinstance(t, Tensor))
    with _Guard(name, min(max(LEAST_MEMORY, MOST_GROWTH * given), _most_memory())):
        return inputs.run(model)


def _most_memory() -> int:
    """Four fifths of the memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 4 // 5
    except (AttributeError, ValueError, OSError):
        return 16 << 30


class _Guard(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, name: str, memory: int) -> None:
        super().__init__()
        self.name, self.memory = name, memory
        self.ends = time.monotonic() + LONGEST
        self.shapes = FakeTensorMode()
        self.alive: dict[StorageWeakRef, int] = {}
        self.in_use = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            args, kwargs = pytree.tree_map_only(nn.Module, self._inside, (args, kwargs))
            return func(*args, **kwargs)
        if time.monotonic() > self.ends:
            self._refuse(f"has not finished after {LONGEST:.0f} seconds")
        problem = problem_of(func, args, kwargs)
        if problem is not None:
            self._refuse(problem)
        if not _is_view(func) and not func._schema.is_mutable:
            self._look_ahead(func, args, kwargs)
        result = func(*args, **kwargs)
        self._count(func, result)
        return result

    def _inside(self, part: nn.Module) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return part(*args, **kwargs)

        return run

    def _shape_of(self, tensor: Tensor) -> Tensor:
        return self.shapes.from_tensor(tensor, static_shapes=True)

    def _look_ahead(self, func: Any, args: Any, kwargs: Any) -> None:
        """Checks what an operator would give, computed on shapes alone, and how much work that is."""
        soon = _bytes_at_most(func, args)
        if soon is not None and self.in_use + soon <= self.memory:
            return
        try:
            args, kwargs = pytree.tree_map_only(Tensor, self._shape_of, (args, kwargs))
            with self.shapes:
                given = func(*args, **kwargs)
            formula = flop_registry.get(func._overloadpacket)
            work = 0 if formula is None else formula(*args, **kwargs, out_val=given)
        except Exception:  # it depends on values, or the operator itself will raise this
            return
        made = [t for t in pytree.tree_leaves(given) if isinstance(t, Tensor)]
        if any(side < 0 for t in made for side in t.shape):
            self._refuse(f"{func} gives a tensor of a negative size")
        self._check_memory(func, sum(map(_bytes_of, made)))
        if work > MOST_WORK:
            self._refuse(f"{func} needs {work:.1e} operations")

    def _check_memory(self, func: Any, wanted: int) -> None:
        if self.in_use + wanted > self.memory:
            self.alive = {ref: size for ref, size in self.alive.items() if not ref.expired()}
            self.in_use = sum(self.alive.values())
        if self.in_use + wanted > self.memory:
            self._refuse(f"{func} asks for {(self.in_use + wanted) / 2**30:.1f} GiB")

    def _count(self, func: Any, result: Any) -> None:
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                if any(side < 0 for side in tensor.shape):
                    self._refuse(f"{func} gives a tensor of a negative size")
                if _bytes_of(tensor) > self.memory:
                    self._refuse(f"{func} gives {_bytes_of(tensor) / 2**30:.1f} GiB")
                if not _is_view(func):
                    storage = tensor.untyped_storage()
                    ref = StorageWeakRef(storage)
                    if ref not in self.alive:
                        self.alive[ref] = storage.nbytes()
                        self.in_use += storage.nbytes()

    def _refuse(self, why: str) -> None:
        raise UntrustedError(
            f"{self.name} would do more than a model does: {why}. If you trust whoever made the file, give --trust"
        )


@cache
def _is_view(func: Any) -> bool:
    """Whether what it gives lies in the memory of an argument."""
    return not func._schema.is_mutable and any(result.alias_info is not None for result in func._schema.returns)


def _bytes_at_most(func: Any, args: Any) -> int | None:
    """The memory of the result of the operators that are called most, without asking torch, which takes longer; None of others.

    None of them does more than a few operations for each value.
    """
    tensors = [value for value in args if isinstance(value, Tensor)]
    if func._schema.name in LIKE_THEIR_INPUT:
        return 2 * _WIDEST * max((t.numel() for t in tensors), default=0)
    if torch.Tag.pointwise not in func.tags or not all(
        isinstance(v, (Tensor, int, float, str, type(None))) for v in args
    ):
        return None
    try:
        return _WIDEST * prod(torch.broadcast_shapes(*(t.shape for t in tensors)))
    except RuntimeError:  # the operator will raise it
        return 0


def _bytes_of(tensor: Tensor) -> int:
    """What the values of a tensor would take, if each had its own."""
    return tensor.numel() * tensor.element_size()
