"""The second engine: torch's ``FlopCounterMode``, which counts what is carried out, with the same table of operations.

Below it a second mode sees what each operation falls into: how many kernels are launched, what they read and write, and which
tensors are alive at the time. Nothing is computed by either, so a model of fake tensors is counted as well as a real one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.counting.call import tensors_in
from saconv_surgeon.profiling.counting.current_module import RunningModule
from saconv_surgeon.profiling.counting.flop_counter_table import custom_mapping
from saconv_surgeon.profiling.counting.higher_order import HigherOrder
from saconv_surgeon.profiling.counting.lazy_outputs import carried_out
from saconv_surgeon.profiling.counting.leaving_torch import LeavingTorch
from saconv_surgeon.profiling.counting.operation_table import formula_of, is_free
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from saconv_surgeon.profiling.counting.user_formulas import user_formulas
from saconv_surgeon.profiling.memory import LiveTensors, strided_parts
from saconv_surgeon.records import CountedByFormula, UncountedOp

ALLOCATIONS = frozenset("empty empty_like empty_strided empty_permuted new_empty new_empty_strided".split())
"""Operations that only ask for memory."""
LOOK_UPS = frozenset("embedding index index_select gather".split())
"""Operations that read as much of their first argument as they give."""
OVERWRITES = frozenset("copy_ fill_ zero_ normal_ uniform_ exponential_ bernoulli_ random_".split())
"""Operations that write to their first argument without reading it."""
ELSEWHERE = "modules that run in another thread"
"""In place of the name of an operation: what counts sees its own thread only."""


@dataclass(frozen=True)
class Dispatched:
    """What was carried out, by the path of the module that did it itself.

    Each has ``macs``, ``flops``, ``activations``, ``ops`` (kernels launched), ``bytes`` (read and written) and ``calls``.
    """

    by_module: Mapping[str, Counter[str]]
    uncounted: Mapping[str, UncountedOp]
    peak_live_bytes: int
    left_by_exceptions: tuple[str, ...] = ()
    """Modules that raised something which the model caught."""
    by_formulas: Mapping[str, CountedByFormula] = field(default_factory=dict)
    """What formulas of users and other packages counted."""

    @property
    def total(self) -> Counter[str]:
        """Of the whole model."""
        return sum(self.by_module.values(), Counter())


def count_by_dispatch(model: nn.Module, inputs: Inputs, resident: Iterable[Tensor] = ()) -> Dispatched:
    """Runs ``model`` once, in the mode that it is in, and counts what it does.

    In inference mode operations are seen as they are called; elsewhere, composite ones only as what they fall into.

    Args:
        model: Any module.
        inputs: What it is run on.
        resident: Tensors that are in memory during the whole run: weights, inputs.

    Raises:
        Exception: What the model raises.
    """
    running, by_user = RunningModule(model), user_formulas()
    tally = _Tally(running)
    live = LiveTensors(resident)
    counter = FlopCounterMode(display=False, custom_mapping=custom_mapping(tally, by_user))
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]  # its own asks for gradients, which inference mode does not have
    modes = _Kernels(tally, live, by_user), counter, HigherOrder(tally, by_user), LeavingTorch(tally)
    with running.watched(), modes[0], modes[1], modes[2], modes[3]:
        carried_out(model(*inputs.args, **inputs.kwargs), tally.add_uncounted)
    for path in running.elsewhere:
        tally.add_uncounted(ELSEWHERE, path)
    for path, calls in running.calls.items():
        tally.by_module.setdefault(path, Counter())["calls"] = calls
    by_formulas = {
        name: CountedByFormula(by_user[name].source, n["calls"], n["macs"], n["flops"])
        for name, n in sorted(tally.by_user.items())
    }
    return Dispatched(
        tally.by_module, tally.uncounted_ops(), live.peak_bytes, tuple(running.left_by_exceptions), by_formulas
    )


class _NoModules:
    """In place of the tracker with which ``FlopCounterMode`` attributes what it counts to modules."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class _Tally:
    """Adds up, by module."""

    def __init__(self, running: RunningModule) -> None:
        self.running = running
        self.by_module: dict[str, Counter[str]] = {}
        self.uncounted: dict[str, Counter[str]] = {}
        self.by_user: dict[str, Counter[str]] = {}

    def add(self, **figures: int) -> None:
        self.by_module.setdefault(self.running.path, Counter()).update(figures)

    def add_cost(self, cost: Cost) -> None:
        self.add(macs=cost.macs, flops=cost.flops, activations=cost.activations)

    def add_by_user(self, name: str, cost: Cost) -> None:
        self.add_cost(cost)
        self.by_user.setdefault(name, Counter()).update(calls=1, macs=cost.macs, flops=cost.flops)

    def add_uncounted(self, name: str, path: str | None = None) -> None:
        self.uncounted.setdefault(name, Counter())[self.running.path if path is None else path] += 1

    def uncounted_ops(self) -> dict[str, UncountedOp]:
        return {name: UncountedOp(n.total(), tuple(n)) for name, n in sorted(self.uncounted.items())}


class _Kernels(TorchDispatchMode):
    """Sees the operations that ``FlopCounterMode`` lets through, and takes each apart into what is launched."""

    def __init__(self, tally: _Tally, live: LiveTensors, by_user: Iterable[str]) -> None:
        super().__init__()
        self.tally, self.live, self.inside = tally, live, 0
        self.by_user = frozenset(by_user)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # asks for a device or a layout
            return func(*args, **kwargs)
        outermost = self.inside == 0
        self.inside += 1
        try:
            nested = any(t.is_nested for t in tensors_in((args, kwargs)))  # taken apart into itself, without end
            with self:
                result = NotImplemented if nested else func.decompose(*args, **kwargs)
        finally:
            self.inside -= 1
        if result is NotImplemented:
            result = func(*args, **kwargs)
            self._launched(func, args, kwargs, result)
        if outermost and not self._is_known(func) and _computes(func, args, kwargs, result):
            self.tally.add_uncounted(func._overloadpacket._qualified_op_name)
        return result

    def _is_known(self, func: Any) -> bool:
        name = func._overloadpacket._qualified_op_name
        has_formula = formula_of(name) is not None or func._overloadpacket in flop_registry
        return has_formula or is_free(name) or name in self.by_user

    def _launched(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        read, written = tensors_in((args, kwargs)), tensors_in(result)
        self.live.saw(written)
        name = func._overloadpacket.__name__
        if name in ALLOCATIONS or _is_view(func, read, written):
            return
        if name in LOOK_UPS:  # a part of the table, as large as what comes out
            read = [*written, *(t for t in read if not t.is_floating_point())]
        elif name in OVERWRITES or isinstance(kwargs.get("out"), Tensor):
            read = [t for t in read if all(t is not result for result in written)]
        self.tally.add(ops=1, bytes=sum(map(_bytes_of, (*read, *written))))


def _computes(func: Any, args: Any, kwargs: Any, result: Any) -> bool:
    """Whether an operation may do work of the model: views do not, nor does torch's arithmetic on indices.

    What other libraries compute on integers may well be work: quantised convolutions.
    """
    read, written = tensors_in((args, kwargs)), tensors_in(result)
    if _is_view(func, read, written) or not (read or written):
        return False
    return func.namespace != "aten" or any(t.is_floating_point() or t.is_complex() for t in (*read, *written))


def _is_view(func: Any, read: list[Tensor], written: list[Tensor]) -> bool:
    """Whether an operation only looks at memory in another way. Of other libraries' operations, only if their schema says so."""
    if torch.Tag.inplace_view in func.tags:
        return True
    if func.namespace != "aten" and not func.is_view:
        return False
    return not func._schema.is_mutable and bool(written) and _all_share_memory(written, read)


def _all_share_memory(written: list[Tensor], read: list[Tensor]) -> bool:
    storages = {_storage(t) for t in read}
    return all(_storage(t) in storages for t in written)


def _storage(t: Tensor) -> Any:
    return t.untyped_storage()._cdata if t.layout is torch.strided else id(t)


def _bytes_of(t: Tensor) -> int:
    """Of the different elements: an expanded tensor is as large as what it repeats, a sparse one as what it stores."""
    total = 0
    for part in strided_parts(t):
        elements = 1
        for size, stride in zip(part.shape, part.stride(), strict=True):
            elements *= size if stride or not size else 1
        total += elements * part.element_size()
    return total
