"""Exported programs (``.pt2``): read without the model's source code, turned into modules, and exported again.

``torch.export.load`` trusts what it reads: pickled tensors and objects, size expressions that are evaluated, and names of
functions. An archive is searched for all of them before it is loaded, and refused where it holds more than data.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.export.unflatten import InterpreterModule
from torch.utils import _pytree as pytree

from saconv_surgeon.convs.targets import find_target
from saconv_surgeon.errors import ModelError, SurgeonError, UntrustedError
from saconv_surgeon.models.archives import check_archive
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.state import preserved
from saconv_surgeon.records import ConvArguments, Plan, from_dict

Ranges = dict[str, tuple[int, int | None]]
"""For every dimension that is dynamic, by ``input[i] dimension d``, the smallest and the largest size (None: any)."""
CONV2D = torch.ops.aten.conv2d
PLAN_ENTRY = "saconv_plan.json"
OPEN = 2**62
"""torch writes an open end of a range as a number near the largest integer."""
SAFE_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|prim|quantized|quantized_decomposed|torchvision|higher_order)(\.(?!_)[A-Za-z]\w*|\._[a-z]\w*){1,2}"
    r"|_operator\.(?!attrgetter|itemgetter|methodcaller|call)[a-z]\w*|math\.[a-z]\w*|torch\.sym_[a-z]+|torch\.(sym_)?(not|and|or)_?"
)
UNSAFE_OPERATIONS = frozenset({"torch.ops.aten.from_file", "torch.ops.aten.from_file.default", "torch.ops.aten.save"})
EXPRESSION_PARTS = (
    *(
        ast.Expression,
        ast.Call,
        ast.keyword,
        ast.Name,
        ast.Load,
        ast.Constant,
        ast.Compare,
        ast.BoolOp,
        ast.UnaryOp,
        ast.BinOp,
    ),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
SYMBOL = re.compile(r"[A-Za-z]{1,12}_?\d+|[su]_?\w{0,40}|int_oo|oo|inf|True|False")


@dataclass(frozen=True, eq=False)
class Program:
    """A ``.pt2`` as a module, with what is needed to export it again.

    ``dynamic_shapes`` is ``(args, kwargs)`` with a dict from dimension to ``Dim`` for every tensor, or None: all sizes are fixed.
    """

    module: nn.Module
    inputs: Inputs | None
    dynamic_shapes: Any
    ranges: Ranges


def read_program(path: Path, *, trust: bool = False) -> Program:
    """The program in ``path`` as a module whose convolutions are ``nn.Conv2d`` again.

    Raises:
        UntrustedError: The archive holds something that runs code, and ``trust`` was not given.
        ModelError: It cannot be read.
    """
    if not trust:
        _check_data_only(path)
    try:
        with _quiet():
            extra = {PLAN_ENTRY: ""}
            program = torch.export.load(path, extra_files=extra)
            module = torch.export.unflatten(program)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"{path} is no readable exported program ({type(error).__name__}: {first}); it was exported with "
            f"torch {_torch_version(path) or 'of an unknown version'}, this is torch {torch.__version__}. Is it complete?"
        ) from error
    if extra[PLAN_ENTRY]:
        _restore_layers(module, extra[PLAN_ENTRY])
    _restore_convolutions(module)
    _forget_traces(module)
    given = program.example_inputs
    inputs = None if given is None else Inputs(tuple(given[0]), dict(given[1]))
    return Program(module.eval(), inputs, _dynamic_shapes(program), _ranges(program))


def write_program(
    model: nn.Module, inputs: Inputs, path: Path, dynamic_shapes: Any = None, *, plan: str | None = None
) -> Ranges:
    """Exports ``model`` to ``path`` in eval mode and returns the range of every dimension that stayed dynamic.

    Args:
        model: Left as it was.
        inputs: What it is traced on.
        path: The file to write.
        dynamic_shapes: ``(args, kwargs)`` as a :class:`Program` has them; None fixes all sizes. Ranges that the model cannot keep
            are narrowed.
        plan: The plan of the surgery as JSON, which lets :func:`read_program` find the layers again.

    Raises:
        ModelError: torch cannot export the model.
    """
    errors: list[Exception] = []
    for shapes in _attempts(dynamic_shapes):
        try:
            with preserved(model), _quiet(), torch.no_grad():
                program = torch.export.export(
                    model, inputs.args, dict(inputs.kwargs), dynamic_shapes=_for_signature(model, inputs, shapes)
                )
                torch.export.save(program, path, extra_files={PLAN_ENTRY: plan} if plan else None)
            return _ranges(program)
        except OSError:
            raise
        except Exception as error:
            errors.append(error)
    first = (str(errors[-1]).strip() or type(errors[-1]).__name__).splitlines()[0][:300]
    raise ModelError(
        f"torch.export cannot export {type(model).__name__} ({type(errors[-1]).__name__}: {first}); save to a folder instead"
    ) from errors[-1]


def narrowed(before: Ranges, after: Ranges) -> list[str]:
    """What the dimensions of a program accept no longer, one sentence each."""
    found = []
    for name, (low, high) in before.items():
        now = after.get(name)
        if now is None:
            found.append(f"{name} is fixed now; it was {_interval(low, high)}")
        elif now[0] > low or (now[1] is not None and (high is None or now[1] < high)):
            found.append(f"{name} accepts {_interval(*now)} now; it was {_interval(low, high)}")
    return found


def _interval(low: int, high: int | None) -> str:
    return f"{low} and more" if high is None else f"{low} to {high}"


def _for_signature(model: nn.Module, inputs: Inputs, shapes: Any) -> Any:
    """``shapes`` in the structure of the arguments of ``model.forward``, by parameter name."""
    if shapes is None:
        return None
    bound = inspect.signature(model.forward).bind(*inputs.args, **inputs.kwargs)
    given = inspect.signature(model.forward).bind(*shapes[0], **shapes[1])
    return {name: given.arguments[name] for name in bound.arguments}


# ------------------------------------------------------------------ what an archive may hold


def _check_data_only(path: Path) -> None:
    """Refuses what ``torch.export.load`` would run."""
    check_archive(path)
    found: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any(name.endswith("serialized_exported_program.json") for name in names):
                found.append("a layout of torch before 2.8, whose parts are pickled")
            for name in names:
                found += _findings(archive, name)
    except (zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ModelError(
            f"{path} is no readable exported program ({type(error).__name__}: {error}); is it complete?"
        ) from error
    if found:
        raise UntrustedError(
            f"{path} holds more than data:\n  "
            + "\n  ".join(dict.fromkeys(found))
            + "\nIf you trust whoever made the file, give --trust; or export the model again"
        )


def _findings(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    inner = name.partition("/")[2]
    if inner.startswith("models/") and inner.endswith(".json"):
        yield from _program_findings(json.loads(archive.read(name)))
    elif inner.startswith(("data/weights/", "data/constants/")):
        if inner.endswith("_config.json"):
            yield from _payload_findings(json.loads(archive.read(name)))
        elif inner.endswith(".pt"):
            yield from _pickle_findings(archive, name)
    elif inner.startswith("data/sample_inputs/"):
        yield from _pickle_findings(archive, name)
    elif inner.startswith("data/aotinductor/"):
        yield f"compiled code ({name})"


def _payload_findings(config: Any) -> Iterator[str]:
    for key, meta in config.get("config", {}).items():
        if meta.get("use_pickle"):
            yield f"a pickled value ({key})"
        if str(meta.get("path_name", "")).startswith(("custom_obj", "opaque_obj")):
            yield f"a pickled object ({key})"


def _pickle_findings(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    import io

    content = archive.read(name)
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        yield f"a pickle of more than tensors ({name})"


def _program_findings(program: Any) -> Iterator[str]:
    for key, value in _strings(program):
        if key == "target" and not _is_safe_target(value):
            yield f"a call of {value!r}"
        elif key == "expr_str" and not _is_safe_expression(value):
            yield f"the size expression {value[:60]!r}"
        elif key in ("in_spec", "out_spec", "treespec") and "default_factory_module" in value:
            yield "a container with a function of its own"
    for name in program.get("range_constraints", {}):
        if not _is_safe_expression(name):
            yield f"the size expression {name[:60]!r}"
    yield from (
        f"the guard {code[:60]!r}" for code in program.get("guards_code", ()) if "__" in code or "import" in code
    )


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)


def _is_safe_target(target: str) -> bool:
    return SAFE_TARGET.fullmatch(target) is not None and "__" not in target and target not in UNSAFE_OPERATIONS


def _is_safe_expression(text: str) -> bool:
    """Whether ``text`` is arithmetic on sizes: evaluating it can call nothing but sympy's classes and those for sizes."""
    try:
        parts = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(part.func) for part in parts if isinstance(part, ast.Call)}
    return all(
        isinstance(part, EXPRESSION_PARTS)
        and (
            not isinstance(part, ast.Call)
            or (isinstance(part.func, ast.Name) and re.fullmatch(r"[A-Z]\w*|floor|ceiling", part.func.id))
        )
        and (not isinstance(part, ast.Name) or id(part) in called or SYMBOL.fullmatch(part.id))
        and (not (isinstance(part, ast.Constant) and isinstance(part.value, str)) or SYMBOL.fullmatch(part.value))
        for part in parts
    )


# ------------------------------------------------------------------ from a program to modules


def _forget_traces(module: nn.Module) -> None:
    """Drops what the graphs remember of symbolic tensors, which cannot be copied."""
    for part in module.modules():
        graph = getattr(part, "graph", None)
        for node in graph.nodes if graph is not None else ():
            node.meta.clear()


def _restore_layers(module: nn.Module, plan: str) -> None:
    """Puts the layers that surgery made back where they were, with their state; what does not fit is left as it is."""
    try:
        recorded = from_dict(Plan, json.loads(plan))
        layer_type = find_target(recorded.target).layer
    except (ValueError, SurgeonError):
        return
    parts = dict(module.named_modules(remove_duplicate=False))
    for site in recorded.sites:
        part = parts.get(site.path)
        # one part for each call of a module
        calls = [path for path in parts if path == site.path or path.startswith(f"{site.path}@")]
        if (
            not site.converts
            or site.arguments is None
            or part is None
            or not all(_maps_one_tensor(parts[c]) for c in calls)
        ):
            continue
        layer = layer_type(**_constructor_arguments(site.arguments), device="meta")
        try:
            layer.load_state_dict(part.state_dict(), strict=True, assign=True)
        except RuntimeError:
            continue
        layer.path = site.path  # type: ignore[assignment]
        for path in calls:
            _call_with_tensor_only(module, parts[path])
        for path in calls:
            module.set_submodule(path, layer.eval())


def _maps_one_tensor(part: nn.Module) -> bool:
    """Whether a part makes one tensor of one tensor; sizes that the graph hands in beside it do not count."""
    if not isinstance(part, InterpreterModule):
        return False
    returned = next(node for node in part.graph.nodes if node.op == "output").args[0]
    single = not isinstance(returned, (tuple, list)) or len(returned) == 1
    return single and len(_tensor_arguments(part)) == 1


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


def _restore_convolutions(module: nn.Module) -> None:
    """Puts an ``nn.Conv2d`` in the place of every part that is one call of ``aten.conv2d`` with its own weight.

    A module called several times was unflattened to one part for each call; those that share a weight and all arguments
    become one convolution again.
    """
    made: dict[tuple[Any, ...], nn.Conv2d] = {}
    for path, part in list(module.named_modules()):
        arguments = _conv_call(part)
        if arguments is None:
            continue
        weight, bias = part._parameters.get("weight"), part._parameters.get("bias")
        key = (id(weight), id(bias), *map(str, arguments))
        if key not in made and weight is not None:
            made[key] = _convolution(weight, bias, *arguments)
        if key in made:
            module.set_submodule(path, made[key])


def _conv_call(part: nn.Module) -> tuple[Any, ...] | None:
    """(stride, padding, dilation, groups) where ``part`` only convolves its input with its own weight; else None."""
    if not isinstance(part, InterpreterModule):
        return None
    nodes = list(part.graph.nodes)
    calls = [n for n in nodes if n.op not in ("placeholder", "get_attr", "output")]
    inputs = [n for n in nodes if n.op == "placeholder"]
    if len(calls) != 1 or len(inputs) != 1 or calls[0].target not in (CONV2D.default, CONV2D.padding):
        return None
    call = calls[0]
    given = (
        dict(zip(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), call.args, strict=False))
        | call.kwargs
    )
    output = nodes[-1].args[0]
    whole = output is call or (isinstance(output, (tuple, list)) and len(output) == 1 and output[0] is call)
    named = {name: getattr(given.get(name), "target", None) for name in ("weight", "bias")}
    if (
        not whole
        or given["input"] is not inputs[0]
        or named["weight"] != "weight"
        or named["bias"] not in ("bias", None)
    ):
        return None
    return (given.get("stride", 1), given.get("padding", 0), given.get("dilation", 1), given.get("groups", 1))


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
    return (value[0], value[-1]) if isinstance(value, (list, tuple)) else value


# ------------------------------------------------------------------ dynamic shapes


def _dynamic_shapes(program: ExportedProgram) -> Any:
    """``(args, kwargs)`` with a dict from dimension to ``Dim`` for every tensor that has symbolic sizes; None where none has.

    A size that is a symbol of its own keeps its range; one that depends on others is left to be found again.
    """
    known: dict[Any, Any] = {}

    def dimension(side: torch.SymInt) -> Any:
        expression = side.node.expr
        limits = program.range_constraints.get(expression)
        if limits is None or not expression.is_Symbol:
            return Dim.AUTO
        if expression not in known:
            known[expression] = Dim(f"size_{len(known)}", min=_finite(limits.lower), max=_finite(limits.upper))
        return known[expression]

    leaves = [
        {i: dimension(side) for i, side in enumerate(shape) if isinstance(side, torch.SymInt)}
        if shape is not None
        else None
        for shape in _input_shapes(program)
    ]
    return pytree.tree_unflatten(leaves, program.call_spec.in_spec) if any(leaves) else None


def _attempts(shapes: Any) -> Iterator[Any]:
    """``shapes``, then with the open ranges left to be found again, then all of them: torch refuses a range that a size outside
    the example's might break, and finds those that it can keep.
    """
    if shapes is None:
        yield None
        return
    yield shapes
    yield _each_dimension(shapes, lambda dim: dim if isinstance(dim, Dim) and dim.max < OPEN else Dim.AUTO)
    yield _each_dimension(shapes, lambda dim: Dim.AUTO)


def _each_dimension(shapes: Any, change: Callable[[Any], Any]) -> Any:
    return pytree.tree_map(
        lambda sides: None if sides is None else {i: change(dim) for i, dim in sides.items()},
        shapes,
        is_leaf=lambda value: value is None or (isinstance(value, dict) and all(isinstance(key, int) for key in value)),
    )


def _ranges(program: ExportedProgram) -> dict[str, tuple[int, int | None]]:
    found: dict[str, tuple[int, int | None]] = {}
    for i, shape in enumerate(_input_shapes(program)):
        for d, side in enumerate(shape or ()):
            if isinstance(side, torch.SymInt):
                limits = program.range_constraints.get(side.node.expr)
                low, high = (limits.lower, limits.upper) if limits is not None else (0, None)
                found[f"input[{i}] dimension {d}"] = int(low), _finite(high)
    return found


def _finite(value: Any) -> int | None:
    whole = isinstance(value, int) or getattr(value, "is_Integer", False)
    return int(value) if whole and int(value) < OPEN else None


def _input_shapes(program: ExportedProgram) -> Iterable[Any]:
    names = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            value = node.meta.get("val")
            yield value.shape if isinstance(value, torch.Tensor) else None


def _torch_version(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if "/models/" in n)
            return str(json.loads(archive.read(name)).get("torch_version"))
    except Exception:  # only for a message
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch.export's warnings about itself and its logged tracebacks; errors still raise."""
    import logging

    loggers = [
        logging.getLogger(name) for name in ("torch.export", "torch._export", "torch.export.pt2_archive._package")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
