"""Moving the norm and the activation after a convolution into the layer that replaces it, and back."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping

from torch import nn

from saconv_surgeon.convs.converted import BLOCK_PARTS, ConvertedLayer
from saconv_surgeon.models.tree.paths import joined, parent_of, paths_of


def absorb(model: nn.Module, layer: ConvertedLayer, parts: Mapping[str, str]) -> None:
    """Makes the modules of ``model`` at the given paths parts of ``layer``, in place, and leaves identities where they were.

    If a module holds nothing and has other users, as YOLO's one activation for all blocks, the layer gets a copy.
    """
    for name, path in parts.items():
        part = model.get_submodule(path)
        places = paths_of(model)[id(part)]
        near = [place for place in places if parent_of(place) == parent_of(path)]
        if is_stateless(part) and len(near) < len(places):
            part, places = copy.deepcopy(part), tuple(near)
        setattr(layer, name, part)
        placeholder = nn.Identity().train(part.training)
        for place in places:
            model.set_submodule(place, placeholder)
    if parts:
        layer.absorbed = dict(parts)


def places_left(model: nn.Module, layer: ConvertedLayer) -> dict[str, str] | None:
    """The paths in ``model``, which may contain the one that was converted, from which ``layer`` absorbed its parts, by name.

    None if they cannot go back: the layer, or the identity that was left there, is not where surgery put it or was changed.
    """
    path = layer.path or ""
    names = paths_of(model).get(id(layer), ())
    prefixes = [name.removesuffix(path) for name in names if path and (name == path or name.endswith(f".{path}"))]
    for prefix in prefixes:
        places = {name: prefix + place for name, place in layer.absorbed.items()}
        if all(_is_left(model, place) for place in places.values()) and all(
            isinstance(getattr(layer, name, None), nn.Module) for name in places
        ):
            return places
    return None


def _is_left(model: nn.Module, place: str) -> bool:
    try:
        placeholder = model.get_submodule(place)
    except AttributeError:
        return False
    return type(placeholder) is nn.Identity and not placeholder._forward_hooks and not placeholder._forward_pre_hooks


def give_back(model: nn.Module, layer: ConvertedLayer, names: Container[str] = BLOCK_PARTS) -> None:
    """Puts back, in place, what ``layer`` has absorbed under ``names``; nothing is changed if that is not possible."""
    places = places_left(model, layer) or {}
    for name, path in ((name, path) for name, path in places.items() if name in names):
        part, placeholder = getattr(layer, name), model.get_submodule(path)
        setattr(layer, name, None)
        for place in paths_of(model)[id(placeholder)]:
            model.set_submodule(place, part)
        layer.absorbed = {other: place for other, place in layer.absorbed.items() if other != name}


def absorbed_places(model: nn.Module) -> dict[str, str]:
    """The paths of the modules that layers of ``model`` have absorbed or renamed, and the paths that they had before."""
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, ConvertedLayer)]
    return {
        joined(path, name): place
        for path, layer in layers
        for name, place in (
            *((part, joined(path, old)) for part, old in layer.renamed.items()),
            *layer.absorbed.items(),
        )
    }


def is_stateless(module: nn.Module) -> bool:
    """Whether a module holds no parameters and no buffers."""
    return not any(True for _ in module.parameters()) and not any(True for _ in module.buffers())
