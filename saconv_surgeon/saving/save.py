"""Saving what the library made: a conversion or a folding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from saconv_surgeon.errors import UsageError
from saconv_surgeon.folding.folded_model import Folding
from saconv_surgeon.models.exported.read_program import Program
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.saving.conversion_files import save_conversion
from saconv_surgeon.saving.conversion_folder import Held
from saconv_surgeon.saving.folded_files import save_folded
from saconv_surgeon.surgery.converted_model import Conversion


@one_at_a_time
@with_room
def save(
    done: Conversion | Folding,
    path: str | Path,
    *,
    overwrite: bool = False,
    force: bool = False,
    checkpoint: Mapping[str, Any] | None = None,
    example_inputs: Any = None,
    program: Program | ExportedProgram | None = None,
    base: Held = "whole",
) -> tuple[str, ...]:
    """Writes what :func:`~saconv_surgeon.convert` or :func:`~saconv_surgeon.fold` made; the suffix of ``path`` says how.

    A conversion goes to a folder, which loads with :func:`~saconv_surgeon.restore` into the model that the user's code builds, to
    one pickled module (``.pt``, ``.pth``), or to an exported program (``.pt2``). A folded model goes to a pickled module, to an
    exported program, to ONNX (``.onnx``), or to a package compiled by AOTInductor (``.aoti.pt2``), the last three for any batch
    and size that the model takes, and run again from the file before it appears. Files appear whole or not at all.

    A folder with ``base="reference"`` holds only what surgery added and training moved; whoever restores it needs the original
    with its weights, which is checked by their sha256. Where nearly everything moved, the whole is written, and said so.

    Args:
        done: What to save.
        path: The folder or file.
        overwrite: Replace what is there.
        force: Save although the outputs moved.
        checkpoint: For a ``.pt``: the dict that the original was found in. It is written with the new model in its place, and
            everything else as it was.
        example_inputs: For what is exported: what the model is traced on.
        program: For the ``.pt2`` of a conversion: the program that the original came from, whose dynamic sizes are kept.
        base: For the folder of a conversion: ``"whole"``, or ``"reference"`` to leave out the tensors that the original has.

    Returns:
        What the user should know about the file: sizes that it does not accept, how far its outputs were off when it was run.

    Raises:
        NotEquivalentError: The proof failed, of a target that preserves the function, and ``force`` was not given.
        UsageError: ``path`` exists and ``overwrite`` was not given, or is of a kind that cannot be written; ``base`` for a file
            or a folding, or a reference to an original that is not known, since the model had been converted before.
        ModelError: The disk is full, the state of the model is not all tensors, a library is missing, or torch cannot export the
            model. Nothing half-written stays.
    """
    common: dict[str, Any] = {"overwrite": overwrite, "force": force, "checkpoint": checkpoint}
    if isinstance(done, Folding):
        if base != "whole":
            raise UsageError(f"base={base!r} is for the folder of a conversion; a folded model is saved whole")
        return save_folded(done, path, example_inputs, **common)
    if not isinstance(done, Conversion):
        raise UsageError(f"save() takes what convert() or fold() gave, not a {type(done).__name__}")
    return save_conversion(done, path, example_inputs=example_inputs, program=program, base=base, **common)
