"""A folded model as a file for deployment, run again from the file before that gets its name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from saconv_surgeon.errors import ModelError, NotEquivalentError, UsageError
from saconv_surgeon.folding.folded_model import Folding
from saconv_surgeon.models.exported.read_program import ranges_of
from saconv_surgeon.models.exported.write_program import open_program
from saconv_surgeon.models.loading.checkpoints import convert_checkpoint
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.saving.atomic import check_place, writing
from saconv_surgeon.saving.export_check import larger_inputs, run_again, runs, sizes_taken
from saconv_surgeon.saving.export_engines import PACKAGE, engine_for
from saconv_surgeon.saving.pickling import pickle_to
from saconv_surgeon.saving.stored_state import check_writable

KINDS = (".pt", ".pth", ".pt2", ".onnx", PACKAGE)


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
        path: The file; its suffix says which kind.
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
        check_writable(folding.model)
        content = folding.model if checkpoint is None else convert_checkpoint(checkpoint, folding.twin)
        with writing(path) as part:
            pickle_to(part, content, path)
        return ()
    if example_inputs is None:
        raise UsageError(f"{path}: the model is exported by running it; give example_inputs")
    inputs = Inputs.of(example_inputs)
    larger = larger_inputs(inputs)
    sides = larger is None or runs(folding.model, larger)
    program = open_program(folding.model, inputs, sides=sides)
    engine = engine_for(path)
    with writing(path) as part:
        engine.write(program, part)
        notes = [*run_again(engine, folding.model, program, inputs, part), sizes_taken(ranges_of(program))]
    return tuple(f"{path}: {note}" for note in notes)


def check_folded_output(path: Path, *, overwrite: bool) -> None:
    """Raises ``UsageError`` if ``path`` must not be written to, ``ModelError`` if it cannot be, or what writes it is not here."""
    if path.suffix not in KINDS:
        raise UsageError(
            f"cannot save a folded model to {path}: it has no plan for a folder to hold; give a file that ends in "
            f"{', '.join(KINDS)}"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder; choose another name")
    if path.is_file() and not overwrite:
        raise UsageError(f"{path} exists already; choose another name, or give --overwrite to replace it")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if not _is_here(name)]
    if path.suffix == ".onnx" and missing:
        raise ModelError(f"{path}: needs {', '.join(missing)}; pip install 'saconv-surgeon[onnx]'")
    check_place(path)


def _is_here(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
