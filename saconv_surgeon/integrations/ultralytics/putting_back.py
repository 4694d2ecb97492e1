"""Putting converted layers back into a model that was built plain, and loading weights into converted models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.converted import BLOCK_PARTS, ConvertedLayer
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.errors import UsageError
from saconv_surgeon.integrations.layers_in_models import (
    Surgery,
    convert_in_place,
    converted_layers,
    convolution_at,
    is_folded,
)
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import surgery_of
from saconv_surgeon.integrations.ultralytics.protected_blocks import protect

Load = Callable[[nn.Module], Any]
State = dict[str, Tensor]


def load_keeping_layers(model: nn.Module, weights: nn.Module, stock_load: Load) -> None:
    """Loads ``weights`` into ``model`` as ``stock_load`` does, in place, and keeps the converted layers of both.

    * Where ``weights`` is converted and ``model`` is plain, ``model`` is converted in the same way first.
    * Where ``model`` is converted and ``weights`` is plain, the layer takes the kernel, and computes that convolution.
    * Warns about each layer of ``weights`` that has no place in ``model``, and each of ``model`` that got nothing.

    Raises:
        UsageError: ``weights`` was folded for inference, so that its layers cannot be made again.
    """
    surgery = surgery_of(weights)
    fitting = fitting_layers(model, surgery)
    convert_in_place(model, fitting)
    _load_into_layers(model, weights, stock_load)
    convert_in_place(model, fitting)  # loading can replace branches of the head by copies of the weights' own
    if any(True for _ in converted_layers(model)):
        protect(model)
    warn_of_blocks_without_a_place(model, weights)


def fitting_layers(model: nn.Module, surgery: Surgery) -> dict[str, Recipe]:
    """The converted layers for which ``model`` has a convolution; warns about the rest.

    Raises:
        UsageError: One of them is a folded layer.
    """
    folded = [path for path, recipe in surgery.items() if is_folded(recipe)]
    if folded:
        raise UsageError(
            f"the weights were folded for inference ({len(folded)} layers, first: {folded[0]}) and cannot be trained or loaded "
            "into another model; give the checkpoint that was folded"
        )
    fitting = {path: recipe for path, recipe in surgery.items() if convolution_at(model, path) is not None}
    absent = [path for path in surgery if path not in fitting]
    if absent:
        warnings.warn(
            f"{len(absent)} converted layers (first: {absent[0]}) have no plain convolution at their place in the model that "
            "is trained, and are not taken over; is it another architecture?",
            stacklevel=3,
        )
    return fitting


def warn_of_blocks_without_a_place(model: nn.Module, weights: nn.Module) -> None:
    """Warns about blocks that the configuration of ``weights`` named and that ``model`` does not have."""
    surgery = surgery_of(weights)
    places = dict(model.named_modules())
    lost = [
        (path, layer)
        for path, layer in converted_layers(weights)
        if path not in surgery and not isinstance(places.get(path), ConvertedLayer)
    ]
    if lost:
        path, layer = lost[0]
        found = type(places[path]).__name__ if path in places else "nothing"
        warnings.warn(
            f"{len(lost)} blocks of the weights are lost (first: {path}, a {type(layer).__name__}; the model has {found} there): "
            "the configuration that the model was built from does not name them. Name them in the YAML with "
            "saconv_surgeon.integrations.ultralytics.register(), or repeat the line that gave them a borrowed name",
            stacklevel=3,
        )


# ------------------------------------------------------------------ weights of converted layers


def _load_into_layers(model: nn.Module, weights: nn.Module, stock_load: Load) -> None:
    """Loads what fits by name and shape, and class scores by class name; then what the layers have under other names."""
    sources = dict(weights.named_modules())
    before = {layer: _cloned(layer.state_dict()) for _, layer in converted_layers(model)}
    stock_load(weights)
    empty = []
    for path, layer in list(converted_layers(model)):
        source = _source_of(layer, sources.get(path))
        if layer in before and not _take_over(layer, source, before[layer]):
            empty.append(path)
        _take_parts(layer, path, sources)
    _return_parts(model, weights)
    if empty:
        warnings.warn(
            f"{len(empty)} converted layers (first: {empty[0]}) are as they were before: the weights have nothing of their shape "
            "and kind at their place",
            stacklevel=4,
        )


def _source_of(layer: ConvertedLayer, found: nn.Module | None) -> nn.Module | None:
    """The convolution among the weights; a block at the place of ``layer`` has it inside."""
    if found is None or isinstance(found, (nn.Conv2d, ConvertedLayer)):
        return found
    inner = getattr(found, "conv", None)
    return inner if isinstance(inner, (nn.Conv2d, ConvertedLayer)) else None


def _take_over(layer: ConvertedLayer, source: nn.Module | None, before: State) -> bool:
    """Completes ``layer``, which has loaded what fits by name; whether there was anything for it."""
    if isinstance(source, ConvertedLayer) and not isinstance(layer, type(source)):
        layer.load_state_dict(before)  # of another kind, of which half would fit
        return False
    state = {} if source is None else source.state_dict()
    own = [name for name in before if name.partition(".")[0] not in BLOCK_PARTS]
    if all(name in state and state[name].shape == before[name].shape for name in own):
        layer.load_state_dict({name: state[name] for name in own}, strict=False)
        return True
    if isinstance(layer, ConvAWS2d):
        return _take_kernel(layer, source, before)
    fresh = _made_again(layer, source)
    layer.load_state_dict(before if fresh is None else {**before, **fresh})
    return fresh is not None


def _take_kernel(layer: ConvAWS2d, source: nn.Module | None, before: State) -> bool:
    """Makes a layer compute what the kernel of ``source`` says: what it had learnt belongs to another kernel."""
    state = {} if source is None else source.state_dict()
    kernel = state.get("weight")
    fits = kernel is not None and kernel.shape == layer.weight.shape
    if not fits and torch.equal(layer.weight, before["weight"]):
        return False
    layer._reset_new_parameters()
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    known = {name: value for name, value in state.items() if name in before and value.shape == before[name].shape}
    # a first convolution for other images has got the summed kernel already
    layer.load_state_dict(known if fits else {"weight": layer.weight.detach()}, strict=False)
    return True


def _made_again(layer: ConvertedLayer, source: nn.Module | None) -> State | None:
    """The state of a layer of the same kind that is made from a plain convolution; None if that is not possible."""
    if type(source) is not nn.Conv2d:
        return None
    try:
        fresh = Recipe.of(layer).make(source).state_dict()
    except (ValueError, NotImplementedError):
        return None
    own = layer.state_dict()
    fits = all(name in own and own[name].shape == value.shape for name, value in fresh.items())
    return fresh if fits else None


def _take_parts(layer: ConvertedLayer, path: str, sources: Mapping[str, nn.Module]) -> None:
    """Loads what the layer has absorbed and what the weights still have at its former place."""
    for name, place in layer.absorbed.items():
        if f"{path}.{name}" not in sources:
            _load_if_alike(getattr(layer, name, None), sources.get(place))


def _return_parts(model: nn.Module, weights: nn.Module) -> None:
    """Loads what a layer of the weights has absorbed and what the model still has at its former place."""
    for path, source in converted_layers(weights):
        for name, place in source.absorbed.items():
            try:
                layer, part = model.get_submodule(path), model.get_submodule(place)
            except AttributeError:
                continue
            if getattr(layer, name, None) is None:
                _load_if_alike(part, getattr(source, name))


def _load_if_alike(part: nn.Module | None, source: nn.Module | None) -> None:
    if part is None or source is None:
        return
    own, given = part.state_dict(), source.state_dict()
    if own and own.keys() == given.keys() and all(own[name].shape == given[name].shape for name in own):
        part.load_state_dict(given)


def _cloned(state: Mapping[str, Tensor]) -> State:
    return {name: value.clone() for name, value in state.items()}
