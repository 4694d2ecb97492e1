"""Moving the norm and the activation behind a convolution into the layer in its place, and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.copying import paths_of


def absorb(model: nn.Module, layer: ConvertedLayer, parts: Mapping[str, str]) -> None:
    """Makes the modules of ``model`` at the given paths parts of ``layer``, in place, and leaves identities where they were."""
    paths = paths_of(model)
    for name, path in parts.items():
        part = model.get_submodule(path)
        setattr(layer, name, part)
        placeholder = nn.Identity().train(part.training)
        for place in paths[id(part)]:
            model.set_submodule(place, placeholder)
    if parts:
        layer.absorbed = dict(parts)


def give_back(model: nn.Module, layer: ConvertedLayer) -> None:
    """Puts what ``layer`` has absorbed where it was, in place."""
    for name, path in layer.absorbed.items():
        part, placeholder = getattr(layer, name), model.get_submodule(path)
        setattr(layer, name, None)
        for place in paths_of(model)[id(placeholder)]:
            model.set_submodule(place, part)
    layer.absorbed = {}


def absorbed_places(model: nn.Module) -> dict[str, str]:
    """Where modules that layers of ``model`` have absorbed are now, and where they were."""
    return {
        f"{path}.{name}" if path else name: place
        for path, layer in model.named_modules()
        if isinstance(layer, ConvertedLayer)
        for name, place in layer.absorbed.items()
    }
