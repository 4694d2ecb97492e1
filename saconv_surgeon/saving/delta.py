"""A conversion without what it has in common with its original: what surgery added and what training moved, as adapters are
shared.

Only tensors that are plain in the state dicts of both are left out; the sha256 of each goes into the file, so that it is certain
that the original still has them when the conversion is put together again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.models.tree.fingerprint import fingerprint, plain_digests
from saconv_surgeon.records import Plan

TAKEN = "saconv-surgeon.base"
"""The entry of a file's metadata that names the tensors it leaves out, with their sha256."""
WORTH_IT = 0.95
"""The share of a model's bytes from which on a delta is not worth that it needs the original."""


@dataclass(frozen=True, eq=False)
class Delta:
    """``tensors`` are to be written; ``taken`` are those that the original has, sha256 by key. Sizes are in bytes."""

    tensors: Mapping[str, Tensor]
    taken: Mapping[str, str]
    written_bytes: int
    whole_bytes: int

    @property
    def worth_it(self) -> bool:
        """Whether it is smaller than the whole, by more than a few percent."""
        return self.written_bytes < WORTH_IT * self.whole_bytes

    @property
    def share(self) -> str:
        """``3.1 % of the model``."""
        return f"{100 * self.written_bytes / max(self.whole_bytes, 1):.1f} % of the model"


def delta_of(tensors: Mapping[str, Tensor], base: Mapping[str, str]) -> Delta:
    """What is left of ``tensors`` without those of which ``base``, the sha256 of the original's by key, has the same."""
    known = plain_digests({key: tensor for key, tensor in tensors.items() if key in base})
    taken = {key: digest for key, digest in known.items() if base[key] == digest}
    left = {key: tensor for key, tensor in tensors.items() if key not in taken}
    return Delta(left, taken, _bytes(left), _bytes(tensors))


def left_out(file: Path) -> dict[str, str]:
    """The tensors that ``file`` leaves out, sha256 by key.

    Raises:
        ArtefactError: It does not say.
    """
    with safe_open(str(file), framework="pt") as content:
        text = (content.metadata() or {}).get(TAKEN)
    try:
        found = json.loads(text or "")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ArtefactError(f"{file} does not say what it leaves out; save the conversion again")
    return found


def check_original(model: nn.Module, plan: Plan, folder: Path) -> None:
    """Checks that ``model`` has the weights that the conversion in ``folder`` was made from.

    Raises:
        ArtefactError: It has others; names both fingerprints, and how the original was built.
    """
    found = fingerprint(model)
    if found == plan.base.fingerprint:
        return
    raise ArtefactError(
        f"{folder} holds only what differs from its original, and this is another {type(model).__name__}: its fingerprint is "
        f"{found}, that of the original {plan.base.fingerprint}; {_how_built(plan)}"
    )


def taken_from(model: nn.Module, wanted: Mapping[str, str], folder: Path) -> dict[str, Tensor]:
    """The tensors of ``model`` that a delta leaves out.

    Raises:
        ArtefactError: One is missing or has other values.
    """
    values = model.state_dict()
    found = plain_digests({key: values[key] for key in wanted if key in values})
    wrong = next((key for key in wanted if found.get(key) != wanted[key]), None)
    if wrong is not None:
        raise ArtefactError(
            f"{folder} leaves {wrong!r} to its original, and this {type(model).__name__} does not have it as it was"
        )
    return {key: values[key].detach() for key in wanted}


def _how_built(plan: Plan) -> str:
    base = plan.base
    if base.model is None:
        return "give the model as it was, with its weights, when it was converted"
    weights = f" with the weights of {base.weights}" if base.weights else ""
    return f"the original was {base.model}{weights or (' with its published weights' if base.pretrained else '')}"


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
