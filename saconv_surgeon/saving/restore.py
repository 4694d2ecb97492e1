"""Reading a saved conversion: verified, strictly, as data only."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.records.input_files import NotReadableError
from saconv_surgeon.saving.conversion_folder import sha256
from saconv_surgeon.saving.delta import check_original, left_out, taken_from
from saconv_surgeon.saving.stored_state import load_stored
from saconv_surgeon.surgery.plan_file import DELTA, PLAN, REPORT, WEIGHTS, conversion_file, plan_of, read_plan_file
from saconv_surgeon.surgery.rewriting import apply

MOST_READINGS = 20


@one_at_a_time
@with_room
def restore(model: nn.Module, folder: str | Path) -> nn.Module:
    """The converted model that was saved to ``folder``, from the original ``model``, which is not modified.

    The recorded plan is replayed (nothing is selected again) and the weights are loaded strictly, in the dtype and memory
    format in which they were saved. The training flags stay those of ``model``. A folder that holds only what differs from the
    original (``save(…, base="reference")``) needs ``model`` with the weights that it was converted with; otherwise any
    will do.

    Raises:
        ArtefactError: The folder is damaged, mixed from two conversions, made from another architecture, or needs other weights.
    """
    folder = Path(folder)
    content, stored, taken = _read(folder)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ArtefactError(
            f"{type(model).__name__} is on the meta device, which holds no weights; build it on a real one"
        )
    plan = plan_of(content, folder / PLAN)
    if taken:
        original = unwrapped(model)
        check_original(original, plan, folder)
        stored |= taken_from(original, taken, folder)
    converted = apply(model, plan)
    if content.get("memory_format") == "channels_last":
        converted = converted.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        missing, unexpected = load_stored(converted, stored, content.get("state"))
    except RuntimeError as error:
        raise _unfit(folder, model, str(error)) from error
    if missing or unexpected:
        found = f"{_listed(missing)} missing, {_listed(unexpected)} unknown to the model"
        raise _unfit(folder, model, found)
    return converted


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str]]:
    """The plan, the weights that belong to it, and which it leaves to the original, sha256 by key.

    All is read again if another process replaced the folder in between.
    """
    for _ in range(MOST_READINGS):
        before = _version(folder)
        try:
            content = read_plan_file(folder)
            weights = _verified_weights(folder, content)
            taken = left_out(weights) if weights.name == DELTA else {}
            return content, load_file(weights), taken
        except (SafetensorError, OSError, ArtefactError) as error:
            if _version(folder) != before:
                continue
            if isinstance(error, ArtefactError):
                raise
            raise ArtefactError(f"{folder} cannot be read: {error}") from error
    raise ArtefactError(f"{folder} is being replaced all the time; read it when that has ended")


def _version(folder: Path) -> tuple[int, ...] | None:
    with suppress(OSError):
        found = conversion_file(folder, PLAN).stat()
        return found.st_dev, found.st_ino, found.st_mtime_ns
    return None


def _unfit(folder: Path, model: nn.Module, why: str) -> ArtefactError:
    return ArtefactError(
        f"the weights in {folder} do not fit {type(model).__name__}: {why}; "
        "build the model with the same code and arguments as for the conversion"
    )


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return f"{len(names)} tensors ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" if names else "none"


def _verified_weights(folder: Path, content: dict[str, Any]) -> Path:
    """The file with the weights, after all files were found to be those that the plan was written for."""
    files = content.get("files")
    weights = next((name for name in (WEIGHTS, DELTA) if isinstance(files, dict) and name in files), None)
    if weights is None or not isinstance(files, dict):
        raise ArtefactError(f"{folder / PLAN} belongs to no saved weights: it was not written by save()")
    for name in (weights, REPORT):
        file = conversion_file(folder, name)
        if not file.exists():
            raise ArtefactError(f"{folder} is incomplete: {name} is missing")
        try:
            found = sha256(file)
        except (NotReadableError, OSError) as error:
            raise ArtefactError(f"{file} cannot be read: {error}; save the conversion again") from error
        if found != files.get(name):
            raise ArtefactError(
                f"{folder / name} is not the file that {PLAN} was written for: it was changed, damaged, or comes from another "
                "conversion; save the conversion again"
            )
    return conversion_file(folder, weights)
