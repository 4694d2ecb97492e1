"""The engines that a folded model is exported for, each with how it writes and opens a file.

torch.export (``.pt2``), ONNX Runtime (``.onnx``), AOTInductor (``.aoti.pt2``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.exported.archive_sink import new_archive
from saconv_surgeon.models.exported.read_program import quiet
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import tensors

PACKAGE = ".aoti.pt2"
MOST_IN_ONNX = 2**31
"""Bytes that a protobuf message, which an ONNX file is, can have."""
REFLECTS = "it pads by reflection, which ONNX Runtime's CoreML provider takes in the MLProgram format only, not in NeuralNetwork"
"""Source: ``PadOpBuilder::IsOpSupportedImpl`` of that provider, in the repository of ONNX Runtime."""

Runner = Callable[[Inputs], list[Tensor]]
"""Runs a file: the tensors of its outputs, in their order."""


@dataclass(frozen=True)
class Engine:
    """An engine: how its files are written and opened, and what a user should know about one."""

    name: str
    write: Callable[[ExportedProgram, Path], object]
    open: Callable[[Path], Runner]
    remarks: Callable[[Path], Sequence[str]] = lambda path: ()


def engine_for(path: Path) -> Engine:
    """The engine that the suffix of ``path`` asks for."""
    if path.name.endswith(PACKAGE):
        return Engine("AOTInductor", _write_package, _open_package)
    if path.suffix == ".onnx":
        return Engine("ONNX Runtime", _write_onnx, _open_onnx, _remarks_on_onnx)
    return Engine("torch.export", _write_program, _open_program)


def _write_program(program: ExportedProgram, path: Path) -> None:
    with quiet(), new_archive(path) as sink:
        torch.export.save(program, sink)  # type: ignore[arg-type]


def _open_program(path: Path) -> Runner:
    with quiet():
        module = torch.export.load(path).module()
    return lambda inputs: tensors(inputs.run(module))


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size >= MOST_IN_ONNX:
        raise ModelError(
            f"{path.name}: the weights have {size / 2**30:.1f} GiB, an ONNX file at most 2; save to a .pt2 file"
        )
    with quiet(), _failing("torch.onnx cannot write this model"):
        torch.onnx.export(program, f=str(path), dynamo=True, external_data=False, verbose=False)


def _open_onnx(path: Path) -> Runner:
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Inputs) -> list[Tensor]:
        given = zip(names, inputs.tensors, strict=True)
        found = session.run(None, {name: t.detach().cpu().numpy() for name, t in given})
        return [torch.from_numpy(value) for value in found]

    return run


def _remarks_on_onnx(path: Path) -> Sequence[str]:
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph.node
    modes = {a.s for n in nodes if n.op_type == "Pad" for a in n.attribute if a.name == "mode"}
    return (REFLECTS,) if b"reflect" in modes else ()


def _write_package(program: ExportedProgram, path: Path) -> None:
    with quiet(), _failing("AOTInductor cannot build this model here"), new_archive(path) as sink:
        torch._inductor.aoti_compile_and_package(program, package_path=sink)  # type: ignore[arg-type]


def _open_package(path: Path) -> Runner:
    with quiet():
        loaded = torch._inductor.aoti_load_package(str(path))

    def run(inputs: Inputs) -> list[Tensor]:
        copies = inputs.copied()
        with torch.no_grad():
            return tensors(loaded(*copies.args, **copies.kwargs))

    return run


@contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ModelError):
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # what torch.onnx says first is how to report it
            cause = cause.__cause__
        why = f"{type(cause).__name__}: {first_line(cause)}"
        raise ModelError(f"{what} ({why}); save to a .pt2 file instead") from error
