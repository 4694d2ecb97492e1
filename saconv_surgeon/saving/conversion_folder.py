"""The folder of a saved conversion: data only.

``plan.json`` (what was done, and the sha256 of the other files), ``model.safetensors`` and ``report.json``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from saconv_surgeon.records import to_dict
from saconv_surgeon.records.input_files import open_regular
from saconv_surgeon.saving.atomic import write_json, writing
from saconv_surgeon.saving.seal import seal
from saconv_surgeon.saving.stored_state import stored_state
from saconv_surgeon.surgery.converted_model import Conversion
from saconv_surgeon.surgery.plan_file import PLAN, REPORT, WEIGHTS

CHUNK = 1 << 20


def save_folder(conversion: Conversion, folder: Path) -> None:
    """Writes ``conversion`` to ``folder``, which is replaced as one; ``plan.json`` has the sha256 of the other files.

    Raises:
        ModelError: The state of the model holds more than tensors, or the folder cannot be written.
    """
    model = conversion.model
    state = stored_state(model)
    metadata = {**state.aliases, "format": "pt"}
    with writing(folder, folder=True) as part:
        save_file(dict(state.tensors), str(part / WEIGHTS), metadata=metadata)
        write_json(part / REPORT, conversion.to_dict())
        write_json(part / PLAN, _plan_content(conversion, part, state.notes()))


def _plan_content(conversion: Conversion, folder: Path, notes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **to_dict(conversion.plan),
        "seal": None if conversion.plan.base.model is None else seal(conversion.plan.base.model),
        "model_class": f"{type(conversion.model).__module__}.{type(conversion.model).__qualname__}",
        "memory_format": _memory_format(conversion.model),
        **({"state": notes} if notes else {}),
        "equivalence": to_dict(conversion.equivalence),
        "files": {name: sha256(folder / name) for name in (WEIGHTS, REPORT)},
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
