"""The converted layers of a Hugging Face model, in the ``config`` that its ``save_pretrained`` writes to ``config.json``.

Imports no transformers: a model that is one of theirs has brought it along.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.integrations.layers_in_models import RECORD, read_layers, written_layers

MIXIN_RECORD = f"_{RECORD}"
"""The same in the configuration of a model with huggingface_hub's ``PyTorchModelHubMixin``, where names that begin so are no
arguments of its class."""
METHOD = "saconv_surgeon"
"""What the configuration names as the quantisation of the model: transformers' own word for a model whose modules are replaced
before weights are loaded. A transformers without this integration warns that it does not know it."""


def record_layers(model: nn.Module) -> bool:
    """Writes the converted layers of each Hugging Face model in ``model`` into its configuration, or takes the record out if
    there are none. One that names another quantisation keeps that beside the record, with a warning.

    Returns:
        Whether a layer was recorded.
    """
    for part in model.modules():
        record_in_mixin(part)
    any_layers = False
    for part in pretrained_models(model):
        layers = written_layers(part)
        config = part.config
        known = getattr(config, "quantization_config", None)
        any_layers = any_layers or bool(layers)
        if layers:
            setattr(config, RECORD, layers)
            if known is None:
                config.quantization_config = {"quant_method": METHOD}
            elif not is_ours(known):
                warnings.warn(
                    f"{type(part).__name__} has a quantisation of its own, beside which from_pretrained cannot bring converted "
                    "layers back; save the conversion with saconv_surgeon.save instead of save_pretrained",
                    stacklevel=3,
                )
        elif hasattr(config, RECORD):
            delattr(config, RECORD)
            if is_ours(known):
                del config.quantization_config
    return any_layers


def pretrained_models(model: nn.Module) -> Iterator[Any]:
    """The outermost Hugging Face models in ``model``: itself, or those that are parts of it."""
    library = sys.modules.get("transformers")
    kind = None if library is None else getattr(library, "PreTrainedModel", None)
    if kind is None:
        return
    if isinstance(model, kind):
        yield model
        return
    for child in model.children():
        yield from pretrained_models(child)


def recorded_layers(config: Any) -> dict[str, Recipe]:
    """The converted layers that a configuration names.

    Raises:
        UsageError: One was folded, is of a target that is not installed, or cannot be read.
    """
    return read_layers(getattr(config, RECORD, None) or {})


def record_in_mixin(part: nn.Module) -> None:
    """Writes the converted layers of a model with huggingface_hub's mixin into its configuration; nothing for other modules."""
    config = getattr(part, "_hub_mixin_config", None)
    if isinstance(config, dict):
        config.pop(MIXIN_RECORD, None)
        layers = written_layers(part)
        if layers:
            config[MIXIN_RECORD] = layers


def is_ours(quantization: object) -> bool:
    """Whether the quantisation that a configuration names is this package's."""
    named = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    return (named or getattr(quantization, "quant_method", None)) == METHOD
