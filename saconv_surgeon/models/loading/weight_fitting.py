"""Loading tensors into a model whose names may differ by a prefix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import ModelError

WRAPPER = "_orig_mod."
"""The prefix that ``torch.compile`` puts before the names inside a compiled part."""
OPTIONAL = ("num_batches_tracked",)
"""State that old checkpoints do not have, and that no prediction depends on."""


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads ``weights`` into ``model``, every tensor of which must be there.

    Names may have a prefix that a wrapper has put there (``module.``, ``model.``, ``net.student.`` …), or lack one. Tensors
    outside that prefix belong to something else (a loss, an averaged copy) and are passed over.

    Raises:
        ModelError: They do not fit: how many and which first. ``model`` is then unchanged.
    """
    wanted = model.state_dict()
    fitting = _fitting_names(weights, wanted)
    missing = [key for key in wanted if key not in fitting and not key.endswith(OPTIONAL)]
    unexpected = [key for key in fitting if key not in wanted]
    shared = [key for key in fitting if isinstance(wanted.get(key), Tensor)]
    reshaped = [key for key in shared if fitting[key].shape != wanted[key].shape]
    retyped = [key for key in shared if _kind(fitting[key]) != _kind(wanted[key])]
    if missing or unexpected or reshaped or retyped:
        parts = [
            _listed(missing, "missing in the file", fitting, wanted),
            _listed(unexpected, "unknown to the model", fitting, wanted),
            _listed(reshaped, "of another shape", fitting, wanted),
            _listed(retyped, "of another kind", fitting, wanted),
        ]
        raise ModelError(
            f"{source} does not fit {type(model).__name__}: of {len(wanted)} tensors, {'; '.join(filter(None, parts))}. "
            "Build the model with the arguments that the weights were trained with"
        )
    model.load_state_dict(fitting, strict=False)


def _fitting_names(weights: Mapping[str, Tensor], wanted: Mapping[str, object]) -> dict[str, Tensor]:
    """The weights under the model's names: with the prefix taken off, or put on, with which most of them match."""
    bare = {key.replace(WRAPPER, ""): value for key, value in weights.items()}
    actual = {key.replace(WRAPPER, ""): key for key in wanted}
    candidates = [bare]
    for prefix in _prefixes(bare, actual):
        candidates.append({key.removeprefix(prefix): value for key, value in bare.items() if key.startswith(prefix)})
    for prefix in _prefixes(actual, bare):
        candidates.append({prefix + key: value for key, value in bare.items()})
    best = max(candidates, key=lambda names: sum(key in actual for key in names))
    return {actual.get(key, key): value for key, value in best.items()}


def _prefixes(longer: Iterable[str], shorter: Iterable[str]) -> list[str]:
    """The prefixes with which the first names of ``shorter`` become names of ``longer``; the shortest first."""
    samples = [f".{name}" for name in list(shorter)[:3]]
    found = {name[: -len(tail) + 1] for name in longer for tail in samples if name.endswith(tail)}
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _listed(keys: list[str], text: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    if not keys:
        return ""
    first = keys[0]
    both = first in found and first in wanted
    detail = f", file {_description(found[first])}, model {_description(wanted[first])}" if both else ""
    return f"{len(keys)} {text} (first: {first}{detail})"


def _description(tensor: Tensor) -> str:
    return f"{_special(tensor)} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}".strip()


def _kind(tensor: Tensor) -> str:
    if _special(tensor):
        return _special(tensor)
    if tensor.is_complex():
        return "complex"
    return "floating" if tensor.is_floating_point() else "whole"


def _special(tensor: Tensor) -> str:
    """What prevents copying a tensor into a plain one; empty for a plain one."""
    if tensor.is_meta:
        return "without values"
    if tensor.is_quantized:
        return "quantised"
    return "" if tensor.layout == torch.strided else "sparse"
