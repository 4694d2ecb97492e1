"""A folded model as a file for the place where it is used, run again from there before it gets its name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from saconv_surgeon.errors import ModelError, NotEquivalentError, UsageError, first_line
from saconv_surgeon.folding.result import Folding
from saconv_surgeon.models.checkpoints import convert_checkpoint
from saconv_surgeon.models.comparison import compare
from saconv_surgeon.models.exported import Ranges, quiet, ranges_of
from saconv_surgeon.models.exporting import open_program
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.outputs import tensors
from saconv_surgeon.models.state import preserved
from saconv_surgeon.surgery.saving import pickle_to, writing

PACKAGE = ".aoti.pt2"
KINDS = (".pt", ".pth", ".pt2", ".onnx", PACKAGE)
AGREEMENT = 1e-4
"""How far, relative to the largest output, another engine may be from torch in float32: it adds in its own order."""
MOST_IN_ONNX = 2**31
"""Bytes that a protobuf message, which an ONNX file is, can have."""
REFLECTS = "it pads by reflection, which ONNX Runtime's CoreML provider takes in the MLProgram format only, not in NeuralNetwork"
"""Source: ``PadOpBuilder::IsOpSupportedImpl`` of that provider, in the repository of ONNX Runtime."""


def save_folded(
    folding: Folding,
    path: str | Path,
    example_inputs: Any = None,
    *,
    overwrite: bool = False,
    force: bool = False,
    checkpoint: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Writes a folded model: pickled (``.pt``, ``.pth``), as an exported program (``.pt2``), as ONNX (``.onnx``), or compiled by
    AOTInductor for the processor or GPU it is on (``.aoti.pt2``).

    Programs, ONNX and compiled packages take any batch and size that the model takes, as far as torch.export can tell; each is
    run again from the file, on ``example_inputs`` and on others, before the file appears.

    Args:
        folding: What to save.
        path: Where; its suffix says how.
        example_inputs: What the model is traced on; not needed for a pickle.
        overwrite: Replace what is there.
        force: Save although the outputs moved.
        checkpoint: For a pickle: the dict that the model was found in, which is written with the folded one in its place.

    Returns:
        What the user should know: what was run again and how far it is, which sizes are fixed.

    Raises:
        NotEquivalentError: The proof failed, and ``force`` was not given.
        UsageError: ``path`` exists and ``overwrite`` was not given, is of a kind that cannot be written, or inputs are missing.
        ModelError: A library or a compiler is missing, the model cannot be exported, the file computes something else, or cannot
            be written. Nothing half-written stays.
    """
    path = Path(path)
    if not folding.acceptable and not force:
        raise NotEquivalentError("the folded model does not compute what the model computes; not saved without force")
    check_folded_output(path, overwrite=overwrite)
    if path.suffix in (".pt", ".pth"):
        content = folding.model if checkpoint is None else convert_checkpoint(checkpoint, folding.twin)
        with writing(path, folder=False) as written:
            written(path, lambda temporary: pickle_to(temporary, content, path))
        return ()
    if example_inputs is None:
        raise UsageError(f"{path}: the model is exported by running it; give example_inputs")
    inputs = Inputs.of(example_inputs)
    larger = _larger(inputs)
    sides = larger is None or _runs(folding.model, larger)
    program = open_program(folding.model, inputs, sides=sides)
    kind = _kind_of(path)
    notes: list[str] = []

    def write(temporary: Path) -> None:
        kind.write(program, temporary)
        notes.extend(_checked(kind, folding, program, inputs, temporary))

    with writing(path, folder=False) as written:
        written(path, write)
    notes.append(_sizes(ranges_of(program)))
    return tuple(f"{path}: {note}" for note in notes)


def check_folded_output(path: Path, *, overwrite: bool) -> None:
    """Raises ``UsageError`` if ``path`` must not or cannot be written to, ``ModelError`` if what writes it is not here."""
    if path.suffix not in KINDS:
        raise UsageError(
            f"cannot save a folded model to {path}: it has no plan for a folder to hold; give a file that ends in "
            f"{', '.join(KINDS)}"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; choose another name")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; choose another name, or give --overwrite to replace it")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not _is_here(name)]
    if path.suffix == ".onnx" and missing:
        raise ModelError(f"{path}: needs {', '.join(missing)}; pip install 'saconv-surgeon[onnx]'")


def _is_here(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# ------------------------------------------------------------------ kinds of files

Runner = Callable[[Inputs], list[Tensor]]
"""Runs a file: the tensors of its outputs, in their order."""


@dataclass(frozen=True)
class Kind:
    """How a kind of file is written and run, by which engine, and what is known of it besides."""

    engine: str
    write: Callable[[ExportedProgram, Path], object]
    open: Callable[[Path], Runner]
    remarks: Callable[[Path], Sequence[str]] = lambda path: ()


def _kind_of(path: Path) -> Kind:
    if path.name.endswith(PACKAGE):
        return Kind("AOTInductor", _write_package, _open_package)
    if path.suffix == ".onnx":
        return Kind("ONNX Runtime", _write_onnx, _open_onnx, _remarks_on_onnx)
    return Kind("torch.export", _write_program, _open_program)


def _write_program(program: ExportedProgram, path: Path) -> None:
    with quiet():
        torch.export.save(program, path)


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
    # the compiler wants a name that ends so
    made = path.with_name(path.name.removesuffix(".pt2") + ".pt2")
    with quiet(), _failing("AOTInductor cannot build this model here"):
        torch._inductor.aoti_compile_and_package(program, package_path=str(made))
    if made != path:
        made.replace(path)


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


# ------------------------------------------------------------------ run again


def _checked(kind: Kind, folding: Folding, program: ExportedProgram, inputs: Inputs, path: Path) -> Iterator[str]:
    """Runs the file on inputs of several sizes and compares it with the model.

    Raises:
        ModelError: It cannot be run, or computes something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            runner = kind.open(path)
        except Exception as error:
            raise ModelError(
                f"the file cannot be opened by {kind.engine} ({first_line(error)}); save to a .pt2 file, or fold in float32"
            ) from error
        worst, ran = 0.0, 0
        for given in _varied(program, inputs):
            wanted = _outputs(folding.model, given)
            try:
                found = runner(given)
            except Exception as error:
                raise ModelError(
                    f"{kind.engine} cannot run the file on {list(given.shapes)} ({type(error).__name__}: {first_line(error)})"
                ) from error
            difference = compare([(str(i), t.cpu()) for i, t in enumerate(wanted)], list(_numbered(found)))
            if not difference.within(_agreement(wanted)):
                what = "; ".join(difference.problems) or f"{difference.max_rel:.1e} relative"
                raise ModelError(
                    f"{kind.engine} computes something else from the file: {what}, on {list(given.shapes)}"
                )
            worst, ran = max(worst, difference.max_rel), ran + 1
    size = f"{ran} size{'s' if ran > 1 else ''} of input"
    yield f"run again with {kind.engine} on {size}: {'bit-identical' if worst == 0 else f'within {worst:.1e} relative'}"
    yield from kind.remarks(path)


def _numbered(found: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((str(i), t.cpu()) for i, t in enumerate(found))


def _agreement(outputs: Sequence[Tensor]) -> float:
    return max([AGREEMENT, *(10 * torch.finfo(t.dtype).eps for t in outputs if t.is_floating_point())])


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with preserved(model):
        return tensors(inputs.run(model))


def _runs(model: nn.Module, inputs: Inputs) -> bool:
    try:
        _outputs(model, inputs)
    except Exception:  # a size that only this model knows to be wrong
        return False
    return True


def _varied(program: ExportedProgram, inputs: Inputs) -> Iterator[Inputs]:
    """The inputs, and others of a size that the program says it takes."""
    yield inputs
    ranges = ranges_of(program)
    if "input[0] dimension 0" in ranges:
        yield from (inputs.with_batch(n) for n in (1, 3) if n != inputs.batch)
    larger = _larger(inputs)
    if larger is not None and all(_within(n, ranges.get(f"input[0] dimension {d}")) for d, n in _sides(larger)):
        yield larger


def _sides(inputs: Inputs) -> list[tuple[int, int]]:
    """The last two dimensions of the only tensor, and their sizes."""
    return list(enumerate(inputs.tensors[0].shape))[-2:]


def _within(size: int, limits: tuple[int, int | None] | None) -> bool:
    return limits is not None and (limits[1] is None or size <= limits[1])


def _larger(inputs: Inputs) -> Inputs | None:
    """With maps that are larger by 64 pixels; None where it is not a single image tensor that goes in."""
    first = next(iter(inputs.tensors), None)
    if first is None or len(inputs.tensors) != 1 or first.dim() < 3 or not first.is_floating_point():
        return None
    shape = (*first.shape[:-2], first.shape[-2] + 64, first.shape[-1] + 64)
    grown = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(first.device, first.dtype)
    return inputs.mapped(lambda t: grown)


def _sizes(ranges: Ranges) -> str:
    """Which sizes of the inputs the file leaves open: ``input[0] dimensions 0, 2 (from 9), 3 (from 9)``."""
    if not ranges:
        return "takes inputs of this size only"
    found: dict[str, list[str]] = {}
    for name, (low, high) in ranges.items():
        tensor, _, dimension = name.partition(" dimension ")
        # torch takes 0 and 1 for sizes apart and writes 2 for the smallest of a free one; a batch of 1 has been run
        limits = "" if low <= 2 and high is None else f" (from {low})" if high is None else f" ({low} to {high})"
        found.setdefault(tensor, []).append(dimension + limits)
    each = (f"{tensor} dimension{'s' if len(free) > 1 else ''} {', '.join(free)}" for tensor, free in found.items())
    return f"takes other sizes: {'; '.join(each)}"
