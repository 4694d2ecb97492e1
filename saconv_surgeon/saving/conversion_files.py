"""Saving a conversion: to a folder, as one pickled module, or as an exported program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from torch.export import ExportedProgram

from saconv_surgeon.errors import ModelError, NotEquivalentError, UsageError, first_line
from saconv_surgeon.models.exported.read_program import Program, program_of, read_program
from saconv_surgeon.models.exported.write_program import narrowed, write_program
from saconv_surgeon.models.loading.checkpoints import convert_checkpoint
from saconv_surgeon.models.running.difference import compare
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.run import run
from saconv_surgeon.models.tree.fingerprint import fingerprint
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.records import to_dict
from saconv_surgeon.saving.atomic import check_place, writing
from saconv_surgeon.saving.conversion_folder import Held, save_folder
from saconv_surgeon.saving.pickling import pickle_to
from saconv_surgeon.saving.stored_state import check_writable
from saconv_surgeon.surgery.converted_model import Conversion
from saconv_surgeon.surgery.plan_file import CONVERSION_FILES, PLAN, conversion_file
from saconv_surgeon.surgery.rewriting import apply

FILES = (".pt", ".pth", ".pt2")


def save_conversion(
    conversion: Conversion,
    path: str | Path,
    *,
    overwrite: bool = False,
    force: bool = False,
    checkpoint: Mapping[str, Any] | None = None,
    example_inputs: Any = None,
    program: Program | ExportedProgram | None = None,
    base: Held = "whole",
) -> tuple[str, ...]:
    """Writes a conversion: to a folder, as one pickled module (``.pt``, ``.pth``), or as an exported program (``.pt2``).

    A folder loads with :func:`~saconv_surgeon.restore` into the model that the user's code builds; a pickled module loads with
    ``torch.load(path, weights_only=False)`` if its classes can be imported; an exported program needs no source code.
    Files appear whole or not at all, and so does the folder, which is replaced as one; other files in it stay.

    Args:
        conversion: What to save.
        path: The folder or file; the suffix says which kind.
        overwrite: Replace what is there.
        force: Save although the outputs moved.
        checkpoint: For a ``.pt``: the dict that the original was found in. It is written with the converted model in its
            place, and everything else as it was.
        example_inputs: For a ``.pt2``: what the model is traced on.
        program: For a ``.pt2``: the program that the original came from, whose dynamic sizes are kept.
        base: For a folder: ``"reference"`` leaves out what the original has; see :func:`~saconv_surgeon.save`.

    Returns:
        What the user should know about the file: for example, sizes that an exported program no longer accepts.

    Raises:
        NotEquivalentError: The proof failed, of a target that preserves the function, and ``force`` was not given.
        UsageError: ``path`` exists and ``overwrite`` was not given, or is of a kind that cannot be written.
        ModelError: The disk is full, the state of the model is not all tensors, or torch cannot export it. Nothing
            half-written stays.
    """
    path = Path(path)
    if not conversion.acceptable and not force:
        raise NotEquivalentError(
            "the converted model does not compute what the original computes; not saved without force"
        )
    check_output(path, overwrite=overwrite)
    if base not in get_args(Held):
        raise UsageError(f'base={base!r}: give "whole" or "reference"')
    if base == "reference" and path.suffix in FILES:
        raise UsageError(f'{path} holds a whole model; base="reference" is for a folder')
    check_writable(conversion.model)
    if path.suffix in (".pt", ".pth"):
        return _save_pickle(conversion, path, checkpoint)
    if path.suffix == ".pt2":
        known = program_of(program) if isinstance(program, ExportedProgram) else program
        return _save_program(conversion, path, example_inputs, known)
    return save_folder(conversion, path, base)


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raises ``UsageError`` if ``path`` must not be written to, ``ModelError`` if it cannot be; nothing is written."""
    if path.suffix in (".onnx", ".safetensors", ".torchscript"):
        raise UsageError(
            f"cannot save to {path}: give a folder, or a file that ends in .pt (a pickled module) or .pt2 (a program)"
        )
    is_file = path.suffix in FILES
    if path.exists() and path.is_dir() == is_file:
        raise UsageError(f"{path} is a {'folder' if is_file else 'file'}; choose another name")
    occupied = path.is_file() if is_file else any(conversion_file(path, name).exists() for name in CONVERSION_FILES)
    if occupied and not overwrite:
        raise UsageError(f"{path} exists already; choose another name, or give --overwrite to replace it")
    if not is_file and path.is_dir() and any(path.iterdir()) and not conversion_file(path, PLAN).exists():
        raise UsageError(f"{path} is a folder with other files in it; choose a new or empty one")
    check_place(path)


def _save_pickle(conversion: Conversion, path: Path, checkpoint: Mapping[str, Any] | None) -> tuple[str, ...]:
    content: Any = conversion.model
    notes: tuple[str, ...] = ()
    if checkpoint is not None:
        content = convert_checkpoint(checkpoint, lambda original: _converted_twin(conversion, original))
        lost = [name for name, value in checkpoint.items() if value is not None and content[name] is None]
        notes = tuple(
            f"{path}: the checkpoint's {name!r} belonged to the old parameters and is None now" for name in lost
        )
        others = [name for name, value in content.items() if _began_otherwise(conversion, value)]
        notes += tuple(
            f"{path}: the checkpoint's {name!r} has other weights than the model that was converted; its layers start from the "
            "part of each kernel that they can express"
            for name in others
        )
    with writing(path) as part:
        pickle_to(part, content, path)
    return notes


def _converted_twin(conversion: Conversion, original: nn.Module) -> nn.Module:
    """``original``, one of the models of a checkpoint, converted in the same way.

    The model that was converted also gets the initial weights of its layers, if they do not follow from the kernels alone.
    """
    twin = apply(original, conversion.plan)
    if conversion.plan.init is not None and fingerprint(original) == conversion.plan.base.fingerprint:
        twin.load_state_dict(conversion.model.state_dict())
    return twin


def _began_otherwise(conversion: Conversion, value: Any) -> bool:
    if conversion.plan.init != "calibrate" or not isinstance(value, nn.Module):
        return False
    found, wanted = unwrapped(value).state_dict(), conversion.model.state_dict()
    return found.keys() == wanted.keys() and any(
        not torch.equal(found[name].to(wanted[name].dtype), wanted[name].to(found[name].dtype).to(wanted[name].dtype))
        for name in wanted
    )


def _save_program(conversion: Conversion, path: Path, example_inputs: Any, program: Program | None) -> tuple[str, ...]:
    if example_inputs is None:
        raise UsageError(f"{path}: a program is exported by running the model; give example_inputs")
    inputs = Inputs.of(example_inputs)
    plan = json.dumps(to_dict(conversion.plan), allow_nan=False)

    shapes = program.dynamic_shapes if program is not None else None
    with writing(path) as part:
        ranges = write_program(conversion.model, inputs, part, shapes, plan=plan)
        _check_program(conversion, inputs, part)
    return tuple(f"{path}: {change}" for change in narrowed(program.ranges if program is not None else {}, ranges))


def _check_program(conversion: Conversion, inputs: Inputs, path: Path) -> None:
    """Checks that the file, read again and run, gives what the converted model gives."""
    try:
        again = run(read_program(path, trust=True).module, inputs, seed=0)
    except Exception as error:
        raise ModelError(
            f"the exported program cannot be run again ({type(error).__name__}: {first_line(error)}); save to a folder instead"
        ) from error
    moved = compare(run(conversion.model, inputs, seed=0), again)
    if not moved.within(conversion.equivalence.tolerance) and conversion.equivalence.deterministic:
        what = "; ".join(moved.problems) or f"the outputs move by {moved.max_rel:.1e} relative"
        raise ModelError(
            f"the exported program does not compute what the model computes ({what}); save to a folder instead"
        )
