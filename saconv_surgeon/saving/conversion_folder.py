"""The folder of a saved conversion: data only.

``plan.json`` (what was done, and the sha256 of the other files), ``report.json``, and the weights: ``model.safetensors``, or
``delta.safetensors`` without what the original has.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import to_dict
from saconv_surgeon.records.input_files import open_regular
from saconv_surgeon.saving.atomic import write_json, writing
from saconv_surgeon.saving.delta import TAKEN, Delta, delta_of
from saconv_surgeon.saving.seal import seal
from saconv_surgeon.saving.stored_state import stored_state
from saconv_surgeon.surgery.converted_model import Conversion
from saconv_surgeon.surgery.plan_file import DELTA, PLAN, REPORT, WEIGHTS

CHUNK = 1 << 20
Held = Literal["whole", "reference"]
"""What a folder holds of a model: all of its tensors, or those that its original does not have."""


def save_folder(conversion: Conversion, folder: Path, base: Held = "whole") -> tuple[str, ...]:
    """Writes ``conversion`` to ``folder``, which is replaced as one; ``plan.json`` has the sha256 of the other files.

    Returns:
        With ``"reference"``: how much was written, and what it needs; or that the whole was written, since all of it moved.

    Raises:
        ModelError: The state of the model holds more than tensors, or the folder cannot be written.
        UsageError: A reference to an original that is not known.
    """
    state = stored_state(conversion.model)
    metadata = {**state.aliases, "format": "pt"}
    tensors, file, notes = state.tensors, WEIGHTS, tuple[str, ...]()
    if base == "reference":
        delta = delta_of(state.tensors, _base_tensors(conversion))
        notes = (_said(delta, conversion, folder),)
        if delta.worth_it:
            tensors, file, metadata[TAKEN] = delta.tensors, DELTA, json.dumps(delta.taken)
    with writing(folder, folder=True) as part:
        save_file(dict(tensors), str(part / file), metadata=metadata)
        write_json(part / REPORT, conversion.to_dict())
        write_json(part / PLAN, _plan_content(conversion, part, state.notes(), (file, REPORT)))
    return notes


def _base_tensors(conversion: Conversion) -> Mapping[str, str]:
    if conversion.base_tensors is None:
        raise UsageError(
            "what this conversion has in common with its original is not known, since it was made from a model that was "
            "converted before; save it whole, or convert the original by the plan of this one"
        )
    return conversion.base_tensors


def _said(delta: Delta, conversion: Conversion, folder: Path) -> str:
    base = conversion.plan.base
    if not delta.worth_it:
        return (
            f"{folder}: training moved nearly everything, and without what is the original's it would be {delta.share}: "
            "the whole was written, which needs no original"
        )
    original = base.model or f"the {type(conversion.model).__name__} that was converted"
    return f"{folder}: {delta.share}; the rest is taken from its original, {original}, {(base.fingerprint or '')[:12]}…"


def _plan_content(
    conversion: Conversion, folder: Path, notes: Mapping[str, Any], files: tuple[str, ...]
) -> dict[str, Any]:
    return {
        **to_dict(conversion.plan),
        "seal": None if conversion.plan.base.model is None else seal(conversion.plan.base.model),
        "model_class": f"{type(conversion.model).__module__}.{type(conversion.model).__qualname__}",
        "memory_format": _memory_format(conversion.model),
        **({"state": notes} if notes else {}),
        "equivalence": to_dict(conversion.equivalence),
        "files": {name: sha256(folder / name) for name in files},
    }


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal; what is added while it is read does not count.

    Raises:
        NotReadableError: It is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0 and (part := file.read(min(left, CHUNK))):
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


def _memory_format(model: nn.Module) -> str:
    """``channels_last`` if every kernel that has a choice is laid out so."""
    dense = [p for p in model.parameters() if p.dim() == 4 and p.layout is torch.strided]
    kernels = [p for p in dense if not p.is_contiguous()]
    undecided = [p for p in dense if p.is_contiguous()]
    only_trivial = all(p.is_contiguous(memory_format=torch.channels_last) for p in undecided)
    return "channels_last" if kernels and only_trivial else "contiguous"
