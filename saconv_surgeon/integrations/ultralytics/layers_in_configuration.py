"""Which layers of an Ultralytics model are converted: as it is, and as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from saconv_surgeon.convs.block import SAConvBlock
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.recipe import Recipe

RECORD = "saconv_surgeon"
"""The entry of a model's configuration (``model.yaml``) that names its converted layers: trainers are always given the
configuration, but no weights with ``pretrained=False``."""

Surgery = Mapping[str, Recipe]
"""The converted layers of a model: their paths, and how each is made."""


def surgery_of(model: object) -> dict[str, Recipe]:
    """The converted layers of a model by path; an empty result for anything that is not a module.

    Blocks that a configuration itself names do not count as conversions: they are built with the model.
    """
    if not isinstance(model, nn.Module):
        return {}
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, ConvertedLayer)]
    return {path: Recipe.of(layer) for path, layer in layers if not isinstance(layer, SAConvBlock)}


def configuration_of(model: object) -> dict[str, Any] | None:
    """The configuration that a model was built from; None for models without one."""
    found = getattr(model, "yaml", None)
    return found if isinstance(found, dict) else None


def record_surgery(model: nn.Module) -> None:
    """Writes the converted layers into the model's configuration, if it has one."""
    configuration = configuration_of(model)
    if configuration is None:
        return
    configuration.pop(RECORD, None)
    surgery = {path: recipe.written() for path, recipe in surgery_of(model).items() if recipe.target is not None}
    if surgery:
        configuration[RECORD] = surgery


def recorded_in(configuration: object) -> dict[str, Recipe]:
    """The converted layers that a configuration names."""
    recorded = configuration.get(RECORD, {}) if isinstance(configuration, dict) else {}
    return {path: Recipe.read(written) for path, written in recorded.items()}
