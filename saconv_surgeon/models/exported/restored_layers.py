"""Convolutions, and the layers of earlier surgery, out of the graphs of an exported program."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export.unflatten import InterpreterModule

from saconv_surgeon.convs.targets.choices import goal_of
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.errors import SurgeonError
from saconv_surgeon.records import ConvArguments, Plan, PlannedSite, from_dict

ATEN = torch.ops.aten
CONV2D = {
    ATEN.conv2d.default: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    ATEN.conv2d.padding: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    ATEN.convolution.default: (
        *("input", "weight", "bias", "stride", "padding", "dilation"),
        *("transposed", "output_padding", "groups"),
    ),
}
"""The operations that a 2-D convolution is exported as, and the names of their arguments in order."""


@dataclass(frozen=True, eq=False)
class _Call:
    """One convolution in a graph: its node, the names of its weight and bias there, and its arguments."""

    node: fx.Node
    weight: str
    bias: str | None
    arguments: tuple[Any, ...]


def restore_layers(module: nn.Module, plan: str) -> None:
    """Puts the layers that surgery made back where they were, with their state; what does not fit is left as it is."""
    try:
        recorded = from_dict(Plan, json.loads(plan))
    except (ValueError, RecursionError):
        return
    parts = dict(module.named_modules(remove_duplicate=False))
    for site in recorded.sites:
        part = parts.get(site.path)
        goal = _goal_of(recorded, site)
        # one part for each call of a module
        calls = [path for path in parts if path == site.path or path.startswith(f"{site.path}@")]
        if (
            not site.converts
            or site.arguments is None
            or part is None
            or goal is None
            or not all(
                _maps_one_tensor(parts[c]) and _convolves_like(parts[c], site.arguments, goal.target) for c in calls
            )
        ):
            continue
        try:
            layer: Any = goal.target.layer(**_constructor_arguments(site.arguments), **goal.options, device="meta")
            for name in site.absorbs:
                if not _maps_one_tensor(part.get_submodule(name)):
                    raise ValueError("what was absorbed is not known")
                setattr(layer, name, part.get_submodule(name))
            layer.load_state_dict(part.state_dict(), strict=True, assign=True)
        except Exception:  # the file may say anything
            continue
        layer.path = site.path
        for path in calls:
            _call_with_tensor_only(module, parts[path])
        for path in calls:
            module.set_submodule(path, layer.eval())


def _goal_of(plan: Plan, site: PlannedSite) -> Goal | None:
    try:
        return goal_of(plan, site)
    except SurgeonError:  # the file may say anything
        return None


def _maps_one_tensor(part: nn.Module) -> bool:
    """Whether a part makes one tensor of one tensor; sizes that the graph passes along with it do not count."""
    if not isinstance(part, InterpreterModule):
        return False
    returned = next(node for node in part.graph.nodes if node.op == "output").args[0]
    single = not isinstance(returned, (tuple, list)) or len(returned) == 1
    return single and len(_tensor_arguments(part)) == 1


def _convolves_like(part: nn.Module, arguments: ConvArguments, target: Target) -> bool:
    """Whether the convolutions with a kernel of that size in the graphs of a part have these arguments, the narrowest of them.

    Their padding may be an operation of its own, and a layer with another kernel than the convolution's may have other groups.
    """
    found = [
        (_pair(dilation), _pair(stride), groups)
        for inner in part.modules()
        for call in _calls(inner, own_weight=False)
        for stride, _, dilation, groups in [call.arguments]
        if tuple(call.node.args[1].meta["val"].shape[-2:]) == tuple(arguments.kernel_size)  # type: ignore[union-attr]
    ]
    wanted = (_pair(arguments.dilation), _pair(arguments.stride), arguments.groups)
    return bool(found) and (min(found) == wanted or (not target.preserves and min(found)[:2] == wanted[:2]))


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[-1]) if isinstance(value, (list, tuple)) else (value, value)


def _tensor_arguments(part: Any) -> list[int]:
    given = [node for node in part.graph.nodes if node.op == "placeholder"]
    return [i for i, node in enumerate(given) if isinstance(node.meta.get("val"), torch.Tensor)]


def _call_with_tensor_only(module: nn.Module, part: nn.Module) -> None:
    """Takes the sizes out of the calls of ``part``: the layer that replaces it reads them off its input."""
    for caller in module.modules():
        graph = getattr(caller, "graph", None)
        for node in graph.nodes if graph is not None else ():
            if node.op == "call_module" and len(node.args) > 1 and caller.get_submodule(str(node.target)) is part:
                node.args = (node.args[_tensor_arguments(part)[0]],)


def _constructor_arguments(arguments: ConvArguments) -> dict[str, Any]:
    given = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(arguments)}
    return given | {"dtype": getattr(torch, given["dtype"])}


def restore_convolutions(module: nn.Module) -> None:
    """Puts ``nn.Conv2d`` where ``module`` convolves with a weight that a convolution module had.

    A part of the program that is nothing but one convolution is replaced. If the graph of a larger part convolves itself, as
    in programs without a module hierarchy, the call is replaced by one of a module under the weight's own name. A module called
    several times becomes one convolution again. Convolutions with other weights stay as they are.
    """
    made: dict[tuple[Any, ...], nn.Conv2d] = {}
    for path, part in list(module.named_modules()):
        for call in list(_calls(part)):
            if _is_all_of(part, call):
                conv = _shared_convolution(part, call, made)
                if conv is not None:
                    module.set_submodule(path, conv)
            else:
                _name_call(part, call, made)


def _calls(part: Any, *, own_weight: bool = True) -> Iterator[_Call]:
    """The 2-D convolutions in the graph of ``part``; with ``own_weight`` those by a kernel that is taken as it is stored."""
    graph = getattr(part, "graph", None)
    for node in graph.nodes if graph is not None else ():
        names = CONV2D.get(node.target) if node.op == "call_function" else None
        if names is None:
            continue
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        weight, bias = given["weight"], given.get("bias")
        known = weight.op == "get_attr" and (bias is None or (isinstance(bias, fx.Node) and bias.op == "get_attr"))
        if (known or not own_weight) and not given.get("transposed", False):
            settings = tuple(
                given.get(name, default)
                for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
            )
            yield _Call(node, str(weight.target), None if bias is None else str(bias.target), settings)


def _is_all_of(part: Any, call: _Call) -> bool:
    """Whether ``part`` only convolves its input with its own weight."""
    nodes = [node for node in part.graph.nodes if node.op != "get_attr"]
    output = nodes[-1].args[0]
    returned = output[0] if isinstance(output, (tuple, list)) and len(output) == 1 else output
    return (
        isinstance(part, InterpreterModule)
        and [node.op for node in nodes] == ["placeholder", "call_function", "output"]
        and returned is call.node
        and call.weight == "weight"
        and call.bias in ("bias", None)
    )


def _name_call(part: Any, call: _Call, made: dict[tuple[Any, ...], nn.Conv2d]) -> None:
    """Replaces the node by a call of a convolution under the name that its weight has, if that name holds nothing else."""
    name, dot, last = call.weight.rpartition(".")
    if not dot or last != "weight" or call.bias not in (f"{name}.bias", None):
        return
    holder = part.get_submodule(name)
    if not isinstance(holder, nn.Conv2d):
        owned = {*holder._parameters, *holder._buffers, *holder._modules}
        expected = {"weight", *(["bias"] if call.bias else [])}
        if type(holder) is not nn.Module or owned != expected:
            return
    conv = _shared_convolution(holder, call, made)
    if conv is None or (isinstance(holder, nn.Conv2d) and holder is not conv):
        return
    part.set_submodule(name, conv)
    with part.graph.inserting_before(call.node):
        replacement = part.graph.call_module(name, (call.node.args[0],))
    call.node.replace_all_uses_with(replacement)
    for node in (call.node, *call.node.all_input_nodes[1:]):
        if not node.users:
            part.graph.erase_node(node)


def _shared_convolution(holder: nn.Module, call: _Call, made: dict[tuple[Any, ...], nn.Conv2d]) -> nn.Conv2d | None:
    """The convolution with the weight in ``holder``: one for all calls with the same weight and arguments."""
    weight = holder._parameters.get("weight")
    bias = holder._parameters.get("bias") if call.bias else None
    if weight is None or weight.dim() != 4:
        return None
    key = (id(weight), id(bias), *map(str, call.arguments))
    if key not in made:
        made[key] = _convolution(weight, bias, *call.arguments)
    return made[key]


def _convolution(
    weight: nn.Parameter, bias: nn.Parameter | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> nn.Conv2d:
    out_channels, in_channels, height, width = weight.shape
    conv = nn.Conv2d(
        in_channels * groups,
        out_channels,
        (height, width),
        stride=_both(stride),
        padding=_both(padding),
        dilation=_both(dilation),
        groups=groups,
        bias=bias is not None,
        device="meta",
        dtype=weight.dtype,
    )
    conv.weight, conv.bias = weight, bias
    return conv.eval()


def _both(value: Any) -> Any:
    """A list of one or two numbers as a pair; ``"same"`` and ``"valid"`` as they are."""
    return _pair(value) if isinstance(value, (list, tuple)) else value
