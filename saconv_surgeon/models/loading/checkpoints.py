"""Checkpoints: under which names they keep a state dict or whole models, and how the models inside are converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.wrappers import rewrapped, unwrapped

NESTINGS = (
    *("ema_state_dict", "state_dict_ema", "model_ema", "params_ema", "ema"),
    *("state_dict", "model_state_dict", "model_state", "params", "model", "module", "net", "network", "weights"),
)
"""Under which names checkpoints keep a state dict; averaged weights, which are the ones to deploy, before the others."""
DEEPEST = 8
"""Nestings that are followed; a container may hold itself."""
MODELS = ("ema", "model", "module", "net", "network")
"""The names under which checkpoints keep whole modules; the averaged weights, which are the ones to use, come first."""
OPTIMIZER = "optimizer"


def state_dict_of(content: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """The state dict in a checkpoint: the content itself or one of its usual entries (``state_dict``, ``ema``, ``model`` …).

    Raises:
        ModelError: There is none.
    """
    if isinstance(content, nn.Module):
        return content.state_dict()
    if isinstance(content, Mapping):
        if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
            return dict(content)
        for name in NESTINGS:
            inner = content.get(name)
            if depth < DEEPEST and (isinstance(inner, nn.Module) or _holds_tensors(inner)):
                return state_dict_of(inner, path, depth + 1)
        tensors = {key: v for key, v in content.items() if isinstance(key, str) and isinstance(v, Tensor)}
        if tensors:
            return tensors
    called = getattr(content, "called", type(content).__name__)
    found = ", ".join(f"{key!r:.60}" for key in list(content)[:8]) if isinstance(content, Mapping) else called
    raise ModelError(
        f"{path} holds no state dict; it holds {found or 'nothing'}. Give a file written by torch.save(model.state_dict(), …)"
    )


def convert_checkpoint(content: Mapping[str, Any], convert: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    """A copy of a checkpoint in which ``convert`` was applied to the models. ``content`` is not modified.

    Converted are the entries of ``MODELS`` that are modules of the same class as the first of them. A model in half precision
    is handed to ``convert`` in float32 and comes back in half precision, so that whatever ``convert`` runs and proves is not
    proved of half-precision arithmetic.

    The state of the optimiser belongs to the parameters one by one. If their names or shapes have changed it cannot be
    loaded any more and becomes None, as Ultralytics itself does with finished trainings: such a checkpoint starts a new
    training, it cannot be resumed. The gradient scaler's state, epoch, arguments and all other entries stay as they are.

    Raises:
        ModelError: There is no model in ``content``.
    """
    models = {name: content[name] for name in MODELS if isinstance(content.get(name), nn.Module)}
    kinds = {name: type(unwrapped(model)) for name, model in models.items()}
    models = {name: model for name, model in models.items() if kinds[name] is next(iter(kinds.values()))}
    if not models:
        raise ModelError(
            f"the checkpoint holds no model under {' or '.join(map(repr, MODELS))}; it holds {', '.join(map(repr, content))}"
        )
    converted: dict[int, nn.Module] = {}
    for model in models.values():
        if id(model) not in converted:  # one model under both names stays one
            converted[id(model)] = _convert_inside(model, convert)
    result = {**content, **{name: converted[id(model)] for name, model in models.items()}}
    changed = any(_parameter_shapes(model) != _parameter_shapes(converted[id(model)]) for model in models.values())
    if changed and OPTIMIZER in result:
        result[OPTIMIZER] = None
    return result


def _convert_inside(model: nn.Module, convert: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Converts the model inside a wrapper (an average of the weights, for example) and keeps the wrapper around it."""
    inner = unwrapped(model)
    converted = _convert_precisely(inner, convert)
    return converted if inner is model else rewrapped(model, converted)


def _convert_precisely(model: nn.Module, convert: Callable[[nn.Module], nn.Module]) -> nn.Module:
    dtype = _half_precision(model)
    if dtype is None:
        return convert(model)
    return convert(copy_model(model).float()).to(dtype)


def _half_precision(model: nn.Module) -> torch.dtype | None:
    """The half precision that all parameters of a model have; None if they have another, or several."""
    dtypes = {parameter.dtype for parameter in model.parameters()}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    return dtype if dtype in (torch.float16, torch.bfloat16) else None


def _parameter_shapes(model: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in model.named_parameters()]


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, (Tensor, Mapping, nn.Module)) for item in value.values())
