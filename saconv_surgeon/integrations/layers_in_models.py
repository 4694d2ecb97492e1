"""The converted layers of a model, how each was made, and making them again in a model that was built plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.models.tree.absorbed_modules import absorb
from saconv_surgeon.models.tree.paths import paths_of

RECORD = "saconv_surgeon"
"""The entry of a library's own configuration of a model that names its converted layers."""

Surgery = Mapping[str, Recipe]
"""The converted layers of a model: their paths, and how each is made."""


def converted_layers(model: nn.Module) -> Iterator[tuple[str, ConvertedLayer]]:
    """All layers of this package in ``model``, with their paths: conversions, and blocks that its configuration names."""
    for path, layer in model.named_modules():
        if isinstance(layer, ConvertedLayer):
            yield path, layer


def convert_in_place(model: nn.Module, surgery: Surgery) -> None:
    """Converts the plain convolutions at the given paths, in place; converted ones are left."""
    paths = paths_of(model)
    for path, recipe in surgery.items():
        conv = convolution_at(model, path)
        if type(conv) is nn.Conv2d:
            layer = recipe.make(conv)
            layer.path = path
            for name in paths[id(conv)]:
                model.set_submodule(name, layer)
            absorb(model, layer, recipe.absorbed)


def convolution_at(model: nn.Module, path: str) -> nn.Module | None:
    """The plain or converted convolution at ``path``; None if there is something else or nothing."""
    try:
        found = model.get_submodule(path)
    except AttributeError:
        return None
    return found if type(found) is nn.Conv2d or isinstance(found, ConvertedLayer) else None


def is_folded(recipe: Recipe) -> bool:
    """Whether the layer was folded for inference, so that it cannot be made from a convolution."""
    return recipe.layer.from_conv2d.__func__ is _NOT_MADE  # type: ignore[attr-defined]


_NOT_MADE = ConvertedLayer.from_conv2d.__func__  # type: ignore[attr-defined]
