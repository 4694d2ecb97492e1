"""The converted layers of a model, how each was made, and making them again in a model that was built plain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.tree.absorbed_modules import absorb
from saconv_surgeon.models.tree.paths import paths_of

RECORD = "saconv_surgeon"
"""The entry of a library's own configuration of a model that names its converted layers."""

Surgery = Mapping[str, Recipe]
"""The converted layers of a model: their paths, and how each is made."""


FOLDED = "folded"
"""Instead of how a layer was made: it was folded for inference and cannot be made again."""


def written_layers(model: nn.Module) -> dict[str, Any]:
    """The converted layers of ``model`` for a configuration: how each was made, by path."""
    recipes = {path: Recipe.of(layer) for path, layer in converted_layers(model)}
    return {path: FOLDED if is_folded(r) or r.target is None else r.written() for path, r in recipes.items()}


def read_layers(found: object) -> dict[str, Recipe]:
    """What :func:`written_layers` wrote.

    Raises:
        UsageError: A layer was folded, is of a target that is not installed, or cannot be read.
    """
    if not isinstance(found, Mapping):
        raise UsageError(f"the configuration has {found!r:.60} as its converted layers; a mapping of paths is needed")
    folded = [path for path, written in found.items() if written == FOLDED]
    if folded:
        raise UsageError(
            f"{len(folded)} layers of this model (first: {folded[0]}) were folded for inference and cannot be built by its "
            "library; load the model that was folded, or save the folded one with saconv_surgeon.save to .pt, .pt2 or .onnx"
        )
    try:
        return {path: Recipe.read(written) for path, written in found.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the configuration's record of converted layers cannot be read: {error}") from error


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
