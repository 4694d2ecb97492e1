"""Exported programs (``.pt2``): read without the model's source code, and turned into modules."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.exported.containers import import_containers, missing_library
from saconv_surgeon.models.exported.program_check import check_data_only, graph_mib
from saconv_surgeon.models.exported.restored_layers import restore_convolutions, restore_layers
from saconv_surgeon.models.exported.time_limit import OutOfTimeError, time_limit
from saconv_surgeon.models.running.difference import compare
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import leaves
from saconv_surgeon.models.tree.wrappers import rebind

Ranges = dict[str, tuple[int, int | None]]
"""For every dimension that is dynamic, by ``input[i] dimension d``, the smallest and the largest size (None: any)."""
PLAN_ENTRY = "saconv_plan.json"
SECONDS, SECONDS_PER_MIB = 60.0, 20.0
"""How long a program may take to be read, by the size of its graph: ten times what torch's own take on a busy machine."""
OPEN = 2**62
"""torch writes an open end of a range as a number near the largest integer."""


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
    if trust:
        return _read(path)
    try:
        with time_limit(SECONDS + SECONDS_PER_MIB * graph_mib(path)):
            check_data_only(path)
            return _read(path)
    except OutOfTimeError as error:
        raise ModelError(
            f"{path} could not be read in {error.seconds:.0f} seconds, which is far more than a program of its size needs; "
            "export it again, or if you trust whoever made the file, give --trust, which waits for it"
        ) from error


def _read(path: Path) -> Program:
    import_containers(path)
    try:
        with quiet():
            extra = {PLAN_ENTRY: ""}
            program = torch.export.load(path, extra_files=extra)
    except Exception as error:
        raise ModelError(_why_unreadable(path, _cause(path, error))) from error
    return program_of(program, plan=extra[PLAN_ENTRY])


def program_of(exported: ExportedProgram, *, plan: str = "") -> Program:
    """An exported program as modules whose convolutions are ``nn.Conv2d`` again. ``exported`` is not modified.

    ``plan`` is what :func:`~saconv_surgeon.models.exported.write_program.write_program` was given, if anything.

    Raises:
        ModelError: torch cannot make modules of it.
    """
    try:
        with quiet():
            module = _modules_of(exported)
    except Exception as error:
        raise ModelError(
            f"torch cannot make modules of this exported program ({type(error).__name__}: {first_line(error)})"
        ) from error
    if plan:
        restore_layers(module, plan)
    restore_convolutions(module)
    rebind(module)
    _forget_traces(module)
    given = exported.example_inputs
    inputs = None if given is None else Inputs(tuple(given[0]), dict(given[1]))
    return Program(module.eval(), inputs, _dynamic_shapes(exported), ranges_of(exported))


def program_of_script(script: torch.jit.ScriptModule, inputs: Inputs) -> Program:
    """A TorchScript module, which stays in its mode, as a program, by torch's own converter; its parameters keep their names.

    Raises:
        ModelError: The converter fails, or what it makes does not compute what the script computes on ``inputs``.
    """
    from torch._export.converter import TS2EPConverter  # torch has no public one

    modes = [(module, module.training) for module in script.modules()]
    try:
        with quiet(), torch.no_grad():
            program = TS2EPConverter(script.eval(), inputs.args, dict(inputs.kwargs)).convert()
            module = _modules_of(program)
            _restore_parameters(module, script)
            restore_convolutions(module)
            rebind(module)
            _forget_traces(module)
            moved = compare([*leaves(inputs.run(script))], [*leaves(inputs.run(module))])
    except Exception as error:
        raise ModelError(
            f"torch cannot convert this TorchScript module to a program ({type(error).__name__}: {first_line(error)})"
        ) from error
    finally:
        for each, training in modes:
            each.training = training
    if not moved.bit_equal:
        raise ModelError(
            f"the program that torch made of the TorchScript module differs from it (max_rel {moved.max_rel:.1e})"
        )
    return Program(module.eval(), inputs, _dynamic_shapes(program), ranges_of(program))


def _dynamic_shapes(program: ExportedProgram) -> Any:
    """``(args, kwargs)`` with a dict from dimension to ``Dim`` for every tensor that has symbolic sizes; None if none has.

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


def ranges_of(program: ExportedProgram) -> Ranges:
    """The range of every dynamic dimension of the inputs."""
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


def _modules_of(program: ExportedProgram) -> nn.Module:
    """The program as a tree of modules; what converters from other formats make has none, and is one module then."""
    homeless = [
        node
        for node in program.graph.nodes
        if node.op not in ("placeholder", "output") and not node.meta.get("nn_module_stack")
    ]
    for node in homeless:
        node.meta["nn_module_stack"] = {"": ("", "torch.nn.modules.module.Module")}
    try:
        return torch.export.unflatten(program)
    finally:
        for node in homeless:
            del node.meta["nn_module_stack"]


def _restore_parameters(module: nn.Module, script: nn.Module) -> None:
    """Makes parameters of what are parameters of ``script``; the converter takes those of a loaded one for buffers."""
    for path, parameter in script.named_parameters():
        prefix, _, name = path.rpartition(".")
        holder = module.get_submodule(prefix)
        value = holder._buffers.pop(name, None)
        if value is not None:
            holder.register_parameter(name, nn.Parameter(value.detach(), requires_grad=parameter.requires_grad))


def _forget_traces(module: nn.Module) -> None:
    """Drops the graphs' records of symbolic tensors, and their unused nodes: neither can be copied."""
    for part in module.modules():
        graph = getattr(part, "graph", None)
        for node in graph.nodes if graph is not None else ():
            node.meta.clear()
    module.input_placeholders, module.check_input_constraints = [], False  # type: ignore[assignment]


def _cause(path: Path, error: Exception) -> Exception:
    """The cause of an error of ``torch.export.load``, which logs what went wrong and raises something else."""
    if "warnings above" in str(error):
        try:
            with quiet():
                importlib.import_module("torch.export.pt2_archive._package").load_pt2(path)
        except Exception as behind:
            return behind
    return error


def _why_unreadable(path: Path, error: Exception) -> str:
    library = missing_library(error)
    if library is not None:
        return (
            f"{path} takes or returns containers of {library}, which torch knows only if that can be imported: "
            f"pip install {library}, or export the model in a wrapper that returns tensors"
        )
    return (
        f"{path} is not a readable exported program ({type(error).__name__}: {first_line(error)}); it was exported with "
        f"torch {_torch_version(path) or 'of an unknown version'}, this is torch {torch.__version__}. Is it complete?"
    )


def _torch_version(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if "/models/" in n)
            return str(json.loads(archive.read(name)).get("torch_version"))
    except Exception:  # only for a message
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warnings about its own exporters and their logged tracebacks; errors still raise."""
    loggers = [
        logging.getLogger(name)
        for name in ("torch.export", "torch._export", "torch.export.pt2_archive._package", "torch.onnx")
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
