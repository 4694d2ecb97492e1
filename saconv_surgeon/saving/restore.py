"""Reading a saved conversion: verified, strictly, as data only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model
from torch import nn

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.models.loading.weight_fitting import OPTIONAL
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.saving.conversion_folder import REPORT, WEIGHTS, sha256
from saconv_surgeon.surgery.plan_file import PLAN, plan_of, read_plan_file
from saconv_surgeon.surgery.rewriting import apply


@one_at_a_time
def restore(model: nn.Module, folder: str | Path) -> nn.Module:
    """The converted model that was saved to ``folder``, from the original ``model``, which is not modified.

    The recorded plan is replayed (nothing is selected again) and the weights are loaded strictly, in the dtype and memory
    format in which they were saved. The training flags stay those of ``model``.

    Raises:
        ArtefactError: The folder is damaged, mixed from two conversions, or made from another architecture.
    """
    folder = Path(folder)
    content = read_plan_file(folder)
    _verify_files(folder, content)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ArtefactError(
            f"{type(model).__name__} is on the meta device, which holds no weights; build it on a real one"
        )
    converted = apply(model, plan_of(content, folder / PLAN))
    if content.get("memory_format") == "channels_last":
        converted = converted.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = folder / WEIGHTS
    try:
        _adopt_dtypes(converted, weights)
        missing, unexpected = load_model(converted, weights, strict=False)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise _unfit(folder, model, str(error)) from error
    # a norm under two names adds its counter if it is not found, and safetensors takes it for one too many
    unexpected = [name for name in unexpected if not (name.endswith(OPTIONAL) and name in converted.state_dict())]
    if missing or unexpected:
        found = f"{_listed(missing)} missing, {_listed(unexpected)} unknown to the model"
        raise _unfit(folder, model, found)
    return converted


def _unfit(folder: Path, model: nn.Module, why: str) -> ArtefactError:
    return ArtefactError(
        f"the weights in {folder} do not fit {type(model).__name__}: {why}; "
        "build the model with the same code and arguments as for the conversion"
    )


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return f"{len(names)} tensors ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" if names else "none"


def _verify_files(folder: Path, content: dict[str, Any]) -> None:
    files = content.get("files")
    if not isinstance(files, dict) or WEIGHTS not in files:
        raise ArtefactError(f"{folder / PLAN} belongs to no saved weights: it was not written by save()")
    for name in (WEIGHTS, REPORT):
        if not (folder / name).exists():
            raise ArtefactError(f"{folder} is incomplete: {name} is missing")
        if sha256(folder / name) != files.get(name):
            raise ArtefactError(
                f"{folder / name} is not the file that {PLAN} was written for: it was changed, damaged, or comes from another "
                "conversion; save the conversion again"
            )


def _adopt_dtypes(model: nn.Module, weights: Path) -> None:
    """Casts the model's tensors to the dtypes in the file, so that loading rounds nothing."""
    with safe_open(weights, framework="pt") as file:
        saved = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping
        probe = {name: torch.empty(0, dtype=_DTYPES.get(kind)) for name, kind in saved.items() if kind in _DTYPES}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            like = probe.get(f"{prefix}.{name}" if prefix else name)
            if tensor is not None and like is not None and like.dtype != tensor.dtype:
                tensor.data = tensor.data.to(like.dtype)


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
