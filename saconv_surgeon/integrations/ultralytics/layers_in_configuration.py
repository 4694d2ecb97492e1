"""Which layers of an Ultralytics model are converted: as it is, and as its configuration (``model.yaml``) says.

Trainers are always given the configuration, but no weights with ``pretrained=False``.
"""

from __future__ import annotations

from typing import Any

import yaml
from torch import nn

from saconv_surgeon.convs.block import SAConvBlock
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.integrations.layers_in_models import RECORD, converted_layers
from saconv_surgeon.integrations.ultralytics.configured_rows import configured_modules


class Record(dict[str, Any]):
    """The entry ``RECORD`` of a configuration: by path, how the layer was made.

    A plain dict in every other respect. It is pickled by the name of a function of this module, so that loading a checkpoint
    imports this package even if a stock trainer has left no layer of it in the model; ``model_checks`` then compares both.
    """

    is_unpickled = False
    """Whether it comes from a file and has not been compared with the layers of its model yet."""

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled_record, (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Record:
        return Record(self)


def unpickled_record(content: dict[str, Any]) -> Record:
    """The record that a pickle holds."""
    record = Record(content)
    record.is_unpickled = True
    return record


for _dumper in {yaml.SafeDumper, yaml.Dumper, getattr(yaml, "CSafeDumper", yaml.SafeDumper)}:
    _dumper.add_representer(Record, yaml.representer.SafeRepresenter.represent_dict)


def surgery_of(model: object) -> dict[str, Recipe]:
    """The converted layers of a model by path; an empty result for anything that is not a module.

    Blocks that a configuration itself names do not count as conversions: they are built with the model.
    """
    if not isinstance(model, nn.Module):
        return {}
    built = configured_modules(model)
    return {
        path: Recipe.of(layer)
        for path, layer in converted_layers(model)
        if not isinstance(layer, SAConvBlock) and id(layer) not in built
    }


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
        configuration[RECORD] = Record(surgery)


def recorded_in(configuration: object) -> dict[str, Recipe]:
    """The converted layers that a configuration names."""
    recorded = configuration.get(RECORD, {}) if isinstance(configuration, dict) else {}
    return {path: Recipe.read(written) for path, written in recorded.items()}


def lost_layers(model: Any) -> list[str]:
    """The paths that the configuration of ``model`` records as converted, and which are not.

    Of a fused model the head does not count: ``fuse()`` renames or drops branches of some.
    """
    configuration = configuration_of(model) or {}
    recorded = configuration.get(RECORD) or {}
    lost = [path for path in recorded if path not in surgery_of(model)] if recorded else []
    if lost and model.is_fused():
        head = f"model.{len(model.model) - 1}."
        lost = [path for path in lost if not path.startswith(head)]
    return lost
