"""The first engine: fvcore, which counts on the trace of one forward pass."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import tensors
from saconv_surgeon.profiling.counting.free_operations import FREE
from saconv_surgeon.profiling.counting.imported_fvcore import PLAIN_FORMULAS, JitModelAnalysis, get_shape
from saconv_surgeon.profiling.counting.lazy_outputs import carried_out
from saconv_surgeon.profiling.counting.operand_kinds import cost_of
from saconv_surgeon.profiling.counting.operation import Formula
from saconv_surgeon.profiling.counting.operation_table import FORMULAS, is_free
from saconv_surgeon.profiling.counting.shape_formulas import Cost
from saconv_surgeon.profiling.counting.trace_node import Node
from saconv_surgeon.profiling.counting.user_formulas import Registered, user_cost, user_formulas
from saconv_surgeon.records import UncountedOp

LOOKS = (
    *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__),
    *(Tensor.item, Tensor.tolist, Tensor.numpy),
)
"""How Python gets at the values of a tensor."""
TRACED_PYTHON = "prim::PythonOp"


@dataclass(frozen=True)
class Traced:
    """What a trace shows: for each module path, with everything below it, ``macs``, ``flops``, ``activations``, ``fvcore``.

    ``stumbled`` are operations on which plain fvcore, whose figure is then unknown, raises; ``unreadable`` those of which the
    trace does not hold what their cost depends on.
    """

    within: Mapping[str, Counter[str]]
    uncounted: Mapping[str, UncountedOp]
    stumbled: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()

    @property
    def total(self) -> Counter[str]:
        """Of the whole model."""
        return self.within.get("", Counter())

    @property
    def opaque(self) -> tuple[str, ...]:
        """Autograd functions, into which a trace does not look."""
        return tuple(op.partition(".")[2] for op in self.uncounted if op.startswith(TRACED_PYTHON))

    def by_module(self, paths: Iterable[str]) -> dict[str, Counter[str]]:
        """What each module does itself, without the modules below it."""
        return _exclusive({path: self.within.get(path, Counter()) for path in paths})


def _exclusive(within: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Of counts that include what is below, each module's own."""
    own = {path: Counter(counts) for path, counts in within.items()}
    for path, counts in within.items():
        parent = path.rpartition(".")[0]
        if path and parent in own:
            own[parent].subtract(counts)
    return own


def count_by_trace(model: nn.Module, inputs: Inputs) -> Traced:
    """Counts ``model``, in the mode that it is in. fvcore leaves hooks on it if its forward raises.

    Raises:
        Exception: What the model raises, or whatever keeps it from being traced.
    """
    flat = _Flat(model, inputs)
    flat.training = model.training
    analysis = JitModelAnalysis(flat, flat.inputs)
    stumbled: set[str] = set()
    unreadable: set[str] = set()
    unknown: Counter[str] = Counter()
    for name, formula in FORMULAS.items():
        count = _by_table(name, formula, unknown)
        analysis.set_op_handle(_full(name), _handler(_full(name), count, stumbled, unreadable))
    for name in FREE:
        full = _full(name)
        handler = _handler(full, lambda _: Cost(), stumbled, unreadable) if full in PLAIN_FORMULAS else None
        analysis.set_op_handle(full, handler)
    for name, registered in user_formulas().items():
        analysis.set_op_handle(name, _handler(name, _by_user(name, registered), stumbled, unreadable))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit, which fvcore rests on, is deprecated as a whole
        # "" is the wrapper: all that "model" does, and also what hooks on the model do
        found = {name: counts for name, counts in analysis.by_module_and_operator().items() if name != "model"}
    within = {_unwrapped(name): counts for name, counts in found.items()}
    uncounted = _uncounted(analysis) | {op: UncountedOp(n, ("",)) for op, n in {**unknown, **flat.uncounted}.items()}
    return Traced(within, uncounted, frozenset(stumbled), frozenset(unreadable))


class _Flat(nn.Module):
    """Takes the tensors of nested arguments and gives those of a nested output: all that tracing can handle.

    A trace drops what leads to nothing, so every tensor of the output is returned, and every one that decided something.
    """

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = model
        self.uncounted: Counter[str] = Counter()
        self.leaves, self.spec = pytree.tree_flatten((inputs.args, dict(inputs.kwargs)))

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        source = iter(given)
        leaves = [next(source) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        with _Decisive() as decisive:
            output = carried_out(self.model(*args, **kwargs), lambda name: self.uncounted.update([name]))
        return (*tensors(output), *decisive.asked)


class _Decisive(TorchFunctionMode):
    """Keeps the tensors that the model looks into, as ``if x.mean() > 0`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LOOKS and isinstance(args[0], Tensor):
            self.asked.append(args[0])
        return func(*args, **(kwargs or {}))


def _by_table(name: str, formula: Formula, unknown: Counter[str]) -> Callable[[Node], Cost]:
    def count(node: Node) -> Cost:
        cost = cost_of(name, formula, node)
        if cost is None:
            unknown[_full(name)] += 1
        return cost or Cost()

    return count


def _by_user(name: str, registered: Registered) -> Callable[[Node], Cost]:
    def count(node: Node) -> Cost:
        results = [tuple(get_shape(output) or ()) for output in node.outputs]
        arguments = [node.described(i) for i in range(len(node.inputs))]
        return user_cost(name, registered, arguments, results[0] if len(results) == 1 else results)

    return count


def _handler(
    name: str, formula: Callable[[Node], Cost], stumbled: set[str], unreadable: set[str]
) -> Callable[[list[Any], list[Any]], Counter[str]]:
    """For ``set_op_handle``; ``fvcore`` is what plain fvcore would have counted."""
    plain = PLAIN_FORMULAS.get(name)

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        try:
            cost = formula(Node(inputs, outputs))
        except (ValueError, IndexError, TypeError):  # it is computed while the model runs
            unreadable.add(name)
            cost = Cost()
        figures = Counter(macs=cost.macs, flops=cost.flops, activations=cost.activations)
        if plain is not None:
            try:
                counted = plain(inputs, outputs)
                figures["fvcore"] = int(sum(counted.values()) if isinstance(counted, Counter) else counted)
            except Exception:  # for example, because it supports matrices only
                stumbled.add(name)
        return figures

    return count


def _full(name: str) -> str:
    return name if "::" in name else f"aten::{name}"


def _uncounted(analysis: JitModelAnalysis) -> dict[str, UncountedOp]:
    """Each operation without a handler: how often, and the modules that run it themselves."""
    total = {op: n for op, n in analysis.unsupported_ops("").items() if not is_free(op)}
    if not total:
        return {}
    names = [name for name in analysis.by_module() if name != "model"]
    own = _exclusive({_unwrapped(name): analysis.unsupported_ops(name) for name in names})
    return {
        op: UncountedOp(int(n), tuple(path for path, ops in own.items() if ops[op] > 0))
        for op, n in sorted(total.items())
    }


def _unwrapped(name: str) -> str:
    """A path in the model, from one in the wrapper around it."""
    return name.removeprefix("model").removeprefix(".")
