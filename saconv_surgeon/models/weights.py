"""Files that hold weights, and models that hold them: reading, fitting, fingerprints."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from saconv_surgeon.errors import ModelError, UntrustedError

NESTINGS = (
    "state_dict",
    "model_state_dict",
    "ema_state_dict",
    "params_ema",
    "params",
    "ema",
    "model",
    "module",
    "weights",
)
PREFIXES = ("module.", "_orig_mod.", "model.", "ema_model.", "backbone.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a state dict saved by ``torch.save``. No code of the file is run.

    Raises:
        ModelError: The file cannot be read or holds no state dict.
        UntrustedError: The file holds more than data.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return state_dict_of(read_pickle(path, trust=False), path)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file.

    Raises:
        ModelError: The file cannot be read.
    """
    _check_file(path)
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); is it complete?") from error


def read_pickle(path: Path, *, trust: bool) -> Any:
    """What ``torch.save`` put into a file.

    Raises:
        UntrustedError: It holds more than tensors and plain containers, and ``trust`` was not given. Names the classes.
        ModelError: The file cannot be read.
    """
    _check_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        classes = _classes_wanted(path)
        if classes and not trust:
            raise UntrustedError(
                f"{path} is a pickle that runs code when it is loaded. It wants these classes:\n  "
                + "\n  ".join(classes)
                + "\nIf you trust whoever made the file, give --trust; "
                "or save a state dict and give the code as MODEL with --weights"
            ) from error
        if not classes:
            raise ModelError(f"{path} cannot be loaded: {_first_line(error)}") from error
    except Exception as error:
        raise ModelError(
            f"{path} cannot be loaded ({type(error).__name__}: {_first_line(error)}); is it complete?"
        ) from error
    return _load_trusted(path)


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint: the content itself or one of its usual entries (``state_dict``, ``ema``, ``model`` …).

    Raises:
        ModelError: There is none.
    """
    if isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        for name in NESTINGS:
            inner = content.get(name)
            if isinstance(inner, Mapping) and any(isinstance(v, (Tensor, Mapping)) for v in inner.values()):
                return state_dict_of(inner, path)
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    found = ", ".join(map(repr, list(content)[:8])) if isinstance(content, Mapping) else type(content).__name__
    raise ModelError(
        f"{path} holds no state dict; it holds {found}. Give a file written by torch.save(model.state_dict(), …)"
    )


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads ``weights`` into ``model`` strictly; prefixes that wrappers add (``module.``, ``_orig_mod.`` …) are understood.

    Raises:
        ModelError: They do not fit: how many and which first. ``model`` is then unchanged.
    """
    wanted = model.state_dict()
    fitting = _best_prefix(weights, wanted)
    missing = [key for key in wanted if key not in fitting]
    unexpected = [key for key in fitting if key not in wanted]
    reshaped = [
        key
        for key, value in fitting.items()
        if isinstance(wanted.get(key), Tensor) and value.shape != wanted[key].shape
    ]
    if not (missing or unexpected or reshaped):
        model.load_state_dict(fitting, strict=True)
        return
    parts = [
        f"{len(keys)} {text} (first: {keys[0]}{detail(keys[0])})"
        for keys, text, detail in (
            (missing, "missing in the file", lambda key: ""),
            (unexpected, "unknown to the model", lambda key: ""),
            (
                reshaped,
                "of another shape",
                lambda key: f", file {tuple(fitting[key].shape)}, model {tuple(wanted[key].shape)}",
            ),
        )
        if keys
    ]
    raise ModelError(
        f"{source} does not fit {type(model).__name__}: of {len(wanted)} tensors, {'; '.join(parts)}. "
        "Build the model with the arguments that the weights were trained with"
    )


def fingerprint(model: nn.Module) -> str:
    """sha256 over names, dtypes, shapes and values of the state dict; the same on every device and memory format."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
            if plain.numel():
                digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _best_prefix(weights: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under the names, with prefixes taken off or put on, that match most of the model's."""
    candidates, names = [dict(weights)], dict(weights)
    while prefix := next((p for p in PREFIXES if names and all(key.startswith(p) for key in names)), None):
        names = {key.removeprefix(prefix): value for key, value in names.items()}
        candidates.append(names)
    candidates += [{prefix + key: value for key, value in weights.items()} for prefix in PREFIXES]
    return max(candidates, key=lambda c: sum(key in wanted for key in c))


def _classes_wanted(path: Path) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # legacy and foreign formats cannot be searched
        return []


def _load_trusted(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelError(
            f"{path} needs code that cannot be imported here ({error}); put it on PYTHONPATH, or run from its folder"
        ) from error
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded ({type(error).__name__}: {_first_line(error)})") from error


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    if path.is_dir():
        raise ModelError(f"{path} is a folder; a file was expected")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
