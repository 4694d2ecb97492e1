"""Counting with fvcore: one trace gives MACs, FLOPs, activations and plain fvcore's own figure, for every module."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from fvcore.nn.jit_analysis import JitModelAnalysis
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.models.outputs import tensors
from saconv_surgeon.models.state import preserved
from saconv_surgeon.profiling.handlers import handlers
from saconv_surgeon.records import Counts, LayerCost, UncountedOp

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = Mapping[str, Any]
HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def count(model: nn.Module, args: Args, kwargs: Kwargs) -> Counts:
    """What one forward pass in eval mode costs. The model is left as it was: modes, buffers, hooks, random state.

    The layer rows are exclusive, each module without its children, and add up to the totals; a converted layer is one row.
    Attention is counted as its two matrix products: fused kernels, which hide them, are switched off meanwhile.

    Returns:
        The counts; with None for each figure, and the reason as ``note``, where fvcore cannot trace the model.

    Raises:
        Exception: Whatever the model raises when it is run on these inputs.
    """
    with preserved(model), _hooks_restored(model), _attention_in_the_open(), torch.no_grad():
        try:
            analysis = _analyse(model, args, kwargs)
        except Exception as error:
            model(*args, **kwargs)  # if the model itself cannot run, that is what is raised
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
            rows = tuple(_rows(model, {}, counted=False))
            return Counts(None, None, None, None, rows, note=f"not counted: fvcore cannot trace this model ({reason})")
        found = {_unwrapped(name): counts for name, counts in analysis.by_module_and_operator().items()}
        total = found.get("", Counter())
        return Counts(
            macs=int(total["macs"]),
            flops=int(total["flops"]),
            fvcore_flops=int(total["fvcore"]),
            activations=int(total["activations"]),
            layers=tuple(_rows(model, found, counted=True)),
            uncounted_ops=_uncounted(analysis),
        )


class _Flat(nn.Module):
    """Takes the tensors of nested arguments and gives those of a nested output: all that tracing can handle.

    Every tensor of the output is returned, since a trace drops what leads to nothing.
    """

    def __init__(self, model: nn.Module, args: Args, kwargs: Kwargs) -> None:
        super().__init__()
        self.model = model
        self.leaves, self.spec = pytree.tree_flatten((args, dict(kwargs)))

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        source = iter(given)
        leaves = [next(source) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return tuple(tensors(self.model(*args, **kwargs)))


def _analyse(model: nn.Module, args: Args, kwargs: Kwargs) -> JitModelAnalysis:
    flat = _Flat(model, args, kwargs).eval()
    analysis = JitModelAnalysis(flat, flat.inputs)
    for op, handler in handlers().items():
        analysis.set_op_handle(op, handler)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit, which fvcore rests on, is deprecated as a whole
        analysis.total()
    return analysis


def _rows(model: nn.Module, found: Mapping[str, Counter[str]], *, counted: bool) -> Iterator[LayerCost]:
    """One row for each module that has parameters of its own or does something itself."""
    charged: set[int] = set()
    whole: list[str] = []  # converted layers: their parts are in their row
    for path, module in model.named_modules():
        if any(path.startswith(f"{layer}." if layer else "") for layer in whole):
            continue
        together = isinstance(module, ConvAWS2d)
        if together:
            whole.append(path)
        parameters = 0
        for parameter in module.parameters(recurse=together):
            if id(parameter) not in charged:
                charged.add(id(parameter))
                parameters += parameter.numel()
        costs = Counter(found.get(path, Counter()))
        if not together:
            for name, _ in module.named_children():
                costs.subtract(found.get(f"{path}.{name}" if path else name, Counter()))
        if parameters or any(costs.values()):
            figures = [int(costs[key]) if counted else None for key in ("macs", "flops", "activations")]
            yield LayerCost(path, type(module).__name__, parameters, *figures)


def _uncounted(analysis: JitModelAnalysis) -> dict[str, UncountedOp]:
    """Each operation without a handler: how often, and the modules that run it themselves."""
    modules = {name: analysis.unsupported_ops(name) for name in analysis.by_module()}
    own: dict[str, list[str]] = {}
    for name, ops in modules.items():
        children = [child for child in modules if child.rpartition(".")[0] == name and child != name]
        for op, n in ops.items():
            if n > sum(modules[child][op] for child in children):
                own.setdefault(op, []).append(_unwrapped(name))
    return {op: UncountedOp(int(n), tuple(own.get(op, ()))) for op, n in sorted(modules[""].items())}


def _unwrapped(name: str) -> str:
    """A path in the model, from one in the wrapper around it."""
    return name.removeprefix("model").removeprefix(".")


@contextmanager
def _hooks_restored(model: nn.Module) -> Iterator[None]:
    """fvcore leaves its hooks on the model if forward raises."""
    kept = [(getattr(module, name), dict(getattr(module, name))) for module in model.modules() for name in HOOKS]
    try:
        yield
    finally:
        for hooks, before in kept:
            for key in [key for key in hooks if key not in before]:
                del hooks[key]


@contextmanager
def _attention_in_the_open() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
