"""The census: one real run, to see which convolutions execute, how often and at which sizes.

Two witnesses watch the same run. Hooks follow which module is running; below them a dispatch mode sees every convolution
that reaches the tensor library, also one that no module stands for. What both see together is complete.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.census.conv_arguments import conv_arguments
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.paths import paths_of
from saconv_surgeon.models.tree.writes import observed_writes
from saconv_surgeon.records import CallShape, ConvSite, Mode, Shape

CONVOLUTION_OPS = frozenset(
    {
        *("convolution", "_convolution", "convolution_overrideable", "_convolution_mode"),
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("mkldnn_convolution", "cudnn_convolution", "cudnn_convolution_transpose", "miopen_convolution"),
        *("_slow_conv2d_forward", "_conv_depthwise2d", "conv_depthwise3d", "slow_conv3d"),
    }
)

QUANTISED = "quantized::"
"""The namespace of the operations of quantised convolutions, whose kernels are packed."""

CONVOLUTIONS = (_ConvNd, ConvertedLayer)
"""Modules that are one row of the table."""


@dataclass(frozen=True, eq=False)
class Given:
    """Stands for an argument that is not a plain value. If that holds tensors alone, ``example`` has them on the meta device."""

    example: Any = None


@dataclass(frozen=True)
class Census:
    """What one run showed. Modules are named by their first path.

    ``sites`` has every convolution, in the order of first calls, those that never ran last. ``calls`` counts the calls of
    each module, ``callers[m][a]`` those of module m by a itself; ``calls_within[a][c]`` those of convolution c while a was
    running; ``arguments`` holds the first call's arguments by parameter name, tensors replaced by ``Given``.
    """

    sites: tuple[ConvSite, ...]
    calls: Mapping[str, int]
    calls_within: Mapping[str, Counter[str]]
    arguments: Mapping[str, Mapping[str, Any]]
    weights_used_elsewhere: Mapping[str, str] = field(default_factory=dict)
    callers: Mapping[str, Counter[str]] = field(default_factory=dict)


def take_census(model: nn.Module, inputs: Inputs, mode: Mode = "eval") -> Census:
    """Runs ``model`` once in ``mode``, without gradients, and reports what its convolutions did.

    The model is left as it was: modes, buffers, hooks and the global random state. What it raises is raised unchanged.
    """
    watch = _Watch(model)
    with preserved(model, mode), observed_writes(model, mode), watch.hooks(), watch:
        inputs.run(model)
    return watch.census()


@dataclass
class _Frame:
    """A module that is running. A module that forward creates has no path of its own and runs under its caller's."""

    path: str
    module: nn.Module
    functional_calls: int = 0


class _Watch(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.paths = paths_of(model)
        self.convolutions = dict(_convolutions(model))  # as they are now: forward may put others in their place
        self.weight_owner = {
            id(p): path
            for path, m in model.named_modules()
            if isinstance(m, _ConvNd)
            for p in (m._parameters.get("weight"),)
        }
        self.outside = _Frame("", model)  # a forward that yields goes on after the module's hooks have seen its end
        self.stack: list[_Frame] = []
        self.calls: Counter[str] = Counter()
        self.callers: dict[str, Counter[str]] = {}
        self.calls_within: dict[str, Counter[str]] = {}
        self.shapes: dict[str, Counter[tuple[Shape, Shape]]] = {}
        self.types: dict[str, str] = {}
        self.arguments: dict[str, dict[str, Any]] = {}
        self.used_elsewhere: dict[str, str] = {}
        self.inside_target = 0

    # ------------------------------------------------------------ watching modules

    @contextmanager
    def hooks(self) -> Iterator[None]:
        with ExitStack() as handles:
            for module in self.model.modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # takes no hooks; its convolutions are seen as operations
                for handle in (
                    module.register_forward_pre_hook(self._enter, with_kwargs=True),
                    module.register_forward_hook(self._leave, with_kwargs=True, always_call=True),
                ):
                    handles.callback(handle.remove)
            yield

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if id(module) not in self.paths:
            self.stack.append(_Frame(self.stack[-1].path if self.stack else "", module))
            return
        path = self.paths[id(module)][0]
        caller = self.stack[-1].path if self.stack else ""
        self.stack.append(_Frame(path, module))
        if isinstance(module, ConvertedLayer):
            self.inside_target += 1
        elif self.inside_target:
            return
        self.calls[path] += 1
        self.callers.setdefault(path, Counter())[caller] += 1
        if path not in self.arguments and not isinstance(module, CONVOLUTIONS):
            self.arguments[path] = _bind(module, args, kwargs)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        path = self.stack.pop().path
        if id(module) not in self.paths:
            return
        if isinstance(module, ConvertedLayer):
            self.inside_target -= 1
        if isinstance(module, CONVOLUTIONS) and not self.inside_target and isinstance(output, Tensor):
            given = args[0] if args else next(iter(kwargs.values()), None)
            self._saw(path, given, output)

    # ------------------------------------------------------------ watching operations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if isinstance(func, torch._ops.HigherOrderOperator):
            return self._control_flow(func, args, kwargs or {})
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if self.inside_target:
            return output
        if func.namespace == "quantized":
            if "conv" in name and isinstance(output, Tensor):
                self._saw_quantised(name, args, output)
        elif name in CONVOLUTION_OPS:
            self._saw_operation(args, output)
        return output

    def _control_flow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``torch.cond`` as a plain ``if``, so that the branch that is taken is observed; other such operators as they are."""
        if func is not torch.ops.higher_order.cond:
            return func(*args, **kwargs)
        predicate, true_branch, false_branch, operands = args
        with self:
            return (true_branch if predicate else false_branch)(*operands)

    def _saw_operation(self, args: tuple[Any, ...], output: Tensor) -> None:
        frame = self.stack[-1] if self.stack else self.outside
        if isinstance(frame.module, _ConvNd) and id(frame.module) in self.paths:
            return  # the module's hook reports it
        weight = args[1]
        transposed = len(args) > 6 and bool(args[6])
        kind = f"conv{'_transpose' if transposed else ''}{weight.dim() - 2}d"
        path = f"{frame.path}::{kind}[{frame.functional_calls}]"
        frame.functional_calls += 1
        self.types[path] = f"F.{kind}"
        owner = self.weight_owner.get(id(weight))
        if owner is not None:
            self.used_elsewhere[owner] = frame.path
        self._saw(path, args[0], output)

    def _saw_quantised(self, name: str, args: tuple[Any, ...], output: Tensor) -> None:
        """One row for a quantised module, named by its path; one for each call in a forward that is not such a module's."""
        frame = self.stack[-1] if self.stack else self.outside
        path = frame.path
        if not type(frame.module).__module__.startswith("torch.ao.nn."):
            path = f"{frame.path}::{name}[{frame.functional_calls}]"
            frame.functional_calls += 1
        self.types[path] = f"{QUANTISED}{name}"
        self._saw(path, args[0], output)

    def _saw(self, path: str, given: Any, output: Tensor) -> None:
        shape = tuple(given.shape) if isinstance(given, Tensor) else ()
        self.shapes.setdefault(path, Counter())[(shape, tuple(output.shape))] += 1
        for frame in {f.path for f in self.stack}:
            self.calls_within.setdefault(frame, Counter())[path] += 1

    # ------------------------------------------------------------ reporting

    def census(self) -> Census:
        modules = self.convolutions
        order = [*self.shapes, *(path for path in modules if path not in self.shapes)]
        return Census(
            sites=tuple(self._site(path, modules.get(path)) for path in order),
            calls=dict(self.calls),
            calls_within=self.calls_within,
            arguments=self.arguments,
            weights_used_elsewhere=self.used_elsewhere,
            callers=self.callers,
        )

    def _site(self, path: str, module: _ConvNd | ConvertedLayer | None) -> ConvSite:
        seen = self.shapes.get(path, Counter())
        shapes = tuple(CallShape(i, o, n) for (i, o), n in seen.items())
        if module is None:
            return ConvSite(path, self.types[path], sum(seen.values()), shapes)
        return ConvSite(
            path=path,
            type=type(module).__name__,
            calls=sum(seen.values()),
            shapes=shapes,
            aliases=self.paths[id(module)][1:],
            arguments=conv_arguments(module) if isinstance(module, _ConvNd) else None,
            parameters=sum(p.numel() for p in module.parameters()),
        )


def _convolutions(model: nn.Module) -> Iterator[tuple[str, _ConvNd | ConvertedLayer]]:
    """Every convolution module by its first path, the parts of a converted layer left out."""
    inside: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, ConvertedLayer):
            inside |= {id(part) for part in module.modules() if part is not module}
        if isinstance(module, CONVOLUTIONS) and id(module) not in inside:
            yield path, module


def _bind(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by parameter name; {} if the signature cannot be read."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {}
    bound.apply_defaults()
    return {name: _without_tensors(value) for name, value in bound.arguments.items()}


def _without_tensors(value: Any) -> Any:
    if _is_plain(value):
        return value
    leaves = pytree.tree_leaves(value)
    if not all(isinstance(leaf, Tensor) or _is_plain(leaf) for leaf in leaves):
        return Given()
    try:
        return Given(pytree.tree_map_only(Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), value))
    except Exception:  # a container that takes only certain tensors, as PackedSequence
        return Given()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype, torch.device))
