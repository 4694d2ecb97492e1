"""Checkpoints of the published layers: loaded so that they give what they gave there, and written so that they give it there.

The names inside a layer are the same everywhere. What differs is what a source ignores (its biases), what it keeps outside the
layer (norms), and the prefix of all names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from saconv_surgeon.convs.aws import STATISTICS, ConvAWS2d
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.deformable import DeformableSAConv2d
from saconv_surgeon.convs.geometry import narrow_padding
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.convs.saconv_parts import absent_at_rest, absent_keys, is_value_at_rest
from saconv_surgeon.convs.spconv import SPConv2d
from saconv_surgeon.models.loading.weight_fitting import OPTIONAL
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.tree.absorbed_modules import absorbed_places
from saconv_surgeon.models.tree.paths import joined

Source = Literal[
    "seed", "mmcv", "detectors", "spconv", "refconv", "dbb", "acnet", "repvgg", "unireplknet", "wtconv", "dcnv2"
]
"""The article's Conv–BN–SiLU block; MMCV's ``SAC`` and ``ConvAWS``; the backbones of DetectoRS; the authors' ``SPConv_3x3``; the
authors' layers of the other targets, whose names each layer's ``published_names`` knows, as those of other packages do."""
LAYERS: Mapping[Source, tuple[type[ConvertedLayer], ...]] = {
    "seed": (ConvAWS2d,),
    "mmcv": (ConvAWS2d,),
    "detectors": (ConvAWS2d,),
    "spconv": (SPConv2d,),
}


@dataclass(frozen=True)
class Loaded:
    """What was loaded: how many tensors, which of the model had none (a new head), and which of the checkpoint had no place."""

    tensors: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


@one_at_a_time
def load_published(module: nn.Module, state_dict: Mapping[str, Tensor], source: Source) -> Loaded:
    """Loads a published state dict into a converted layer, or into a model that has some. ``state_dict`` is not modified.

    ``SAConv2d`` layers of all sources have a ``bias`` that their forward never uses (MMCV's and DetectoRS' pass zeros, the seed's
    block passes None), so it is loaded as zero; ``load_state_dict`` would load its values. A norm that a layer has absorbed
    is found outside the layer for sources that keep it there. All names may have a prefix (``backbone.``, ``module.``).

    Args:
        module: Layers as large as the published ones; with ``bn`` for the seed's block.
        state_dict: As ``state_dict()`` gives it there; of a whole detector, the part that fits is taken.
        source: Which project it is from.

    Returns:
        What was loaded. In converted layers everything was.

    Raises:
        ValueError: An unknown source, or keys or shapes of the converted layers that do not fit. ``module`` is then unchanged.
    """
    _check_source(source, module)
    own = module.state_dict()
    inside = [key for path, layer in _layers(module) for key in _keys_in(own, path, layer)]
    theirs = {key: _renamed(key, module, source) for key in own}
    prefix = _prefix(state_dict, theirs, inside)
    given = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    live = {key: given[name] for key, name in theirs.items() if name in given}
    for path, layer in _layers(module):
        if isinstance(layer, SAConv2d) and layer.bias is not None:
            live[joined(path, "bias")] = torch.zeros_like(layer.bias)
    plain = {
        joined(path, name)
        for path, layer in _layers(module)
        for name in STATISTICS
        if all(joined(path, statistic) not in live for statistic in STATISTICS)
    }  # a plain convolution's dict: they follow from the kernel
    needed = [key for key in own if key not in live and not key.endswith(OPTIONAL) and key not in plain]
    absent = _absent(module)
    lost = [key for key in given if key in absent and not is_value_at_rest(absent[key], given[key])]
    unexpected = [key for key in given if key not in set(theirs.values()) and key not in absent]
    problems = [
        *(f"{key} is missing" for key in needed if key in inside),
        *(f"{key} is unknown" for key in unexpected if _is_in_layer(key, module) and not _is_dead(key, module)),
        *(f"{key} is trained, and the layer has no such part (--parts all)" for key in lost),
        *(
            f"{key} is {tuple(live[key].shape)}, needed {tuple(own[key].shape)}"
            for key in live
            if live[key].shape != own[key].shape
        ),
    ]
    if problems:
        raise ValueError(f"the {source} state dict does not fit: {'; '.join(problems)}{_advice(unexpected, module)}")
    module.load_state_dict(live, strict=False)
    outside = [key for key in state_dict if not key.startswith(prefix)]
    rest = [key for key in (*unexpected, *outside) if not _is_dead(key, module)]
    return Loaded(len(live), tuple(key for key in needed if key not in inside), tuple(rest))


@one_at_a_time
def published_state(module: nn.Module, source: Source) -> dict[str, Tensor]:
    """The state of a converted layer, or of a model, as ``source`` has it; loaded there, it gives what it gives here.

    Parts that a layer does not have are there as those of a new layer. A bias that the source ignores goes into the
    post-context, whose last sum it joins: y + b + B(GAP(y) + b) + c. The tensors are copies.

    Raises:
        ValueError: An unknown source, or a layer that it does not have or would compute otherwise.
    """
    _check_source(source, module)
    state = {key: value.detach().clone() for key, value in module.state_dict().items()}
    for path, layer in _layers(module):
        wrong = _not_there(layer, source)
        if wrong is not None:
            raise ValueError(f"{path or type(layer).__name__}: {wrong}")
        if isinstance(layer, SAConv2d):
            state |= {joined(path, key): value for key, value in absent_at_rest(layer, layer.parts).items()}
        if isinstance(layer, SAConv2d) and layer.bias is not None:
            bias, context = layer.bias.detach().double(), joined(path, "post_context")
            matrix, shift = (state[f"{context}.{name}"].double() for name in ("weight", "bias"))
            state[f"{context}.bias"] = (shift + bias + matrix[:, :, 0, 0] @ bias).to(layer.bias.dtype)
            state[joined(path, "bias")] = torch.zeros_like(layer.bias)
        elif isinstance(layer, SAConv2d) and source == "seed":
            state[joined(path, "bias")] = layer.weight.new_zeros(layer.out_channels)  # it is there, and never used
    return {_renamed(key, module, source): value for key, value in state.items()}


def _check_source(source: str, module: nn.Module) -> None:
    known = any(layer.published_names(source) is not None for _, layer in _layers(module))
    if source not in get_args(Source) and not known:
        raise ValueError(f"unknown source {source!r}; there is: {', '.join(get_args(Source))}")


def _layers(module: nn.Module) -> Iterator[tuple[str, ConvertedLayer]]:
    yield from ((path, layer) for path, layer in module.named_modules() if isinstance(layer, ConvertedLayer))


def _keys_in(own: Mapping[str, Tensor], path: str, layer: ConvertedLayer) -> list[str]:
    start = f"{path}." if path else ""
    return [start + name for name in layer.state_dict() if start + name in own]


def _absent(module: nn.Module) -> dict[str, str]:
    """The keys of parts that layers of ``module`` do not have, and what the layer would call each."""
    layers = ((path, layer) for path, layer in _layers(module) if isinstance(layer, SAConv2d))
    return {joined(path, key): key for path, layer in layers for key in absent_keys(layer.parts)}


def _is_in_layer(key: str, module: nn.Module) -> bool:
    return any(key.startswith(f"{path}." if path else "") for path, _ in _layers(module))


def _is_dead(key: str, module: nn.Module) -> bool:
    """Whether a key is the bias of a published layer that has none here: it is not used there either."""
    return any(isinstance(layer, SAConv2d) and key == joined(path, "bias") for path, layer in _layers(module))


def _renamed(key: str, module: nn.Module, source: Source) -> str:
    """What ``source`` calls a key of ours. Norms are outside there, but for the seed and for layers that know."""
    if source == "seed":
        return key
    for path, layer in _layers(module):
        names = layer.published_names(source)
        start = f"{path}." if path else ""
        if names is not None and key.startswith(start):
            inside = key.removeprefix(start)
            ours = max((name for name in names if inside.startswith(name)), key=len, default=None)
            return key if ours is None else start + names[ours] + inside.removeprefix(ours)
    for place, before in absorbed_places(module).items():
        if key.startswith(f"{place}."):
            return before + key.removeprefix(place)
    return key


def _prefix(state: Mapping[str, Tensor], theirs: Mapping[str, str], inside: list[str]) -> str:
    """The prefix of all names: the one with which most of them are found, the shortest of several."""
    probes = [theirs[key] for key in (inside or list(theirs))[:1]]
    found = {key.removesuffix(probe) for key in state for probe in probes if key.endswith(probe)} | {""}
    names = [name for name in found if name == "" or name.endswith(".")]
    return max(names, key=lambda start: (sum(start + name in state for name in theirs.values()), -len(start)))


def _advice(unexpected: list[str], module: nn.Module) -> str:
    deformable = [key for key in unexpected if ".offset_" in f".{key}" and _is_in_layer(key, module)]
    if not deformable:
        return ""
    return f" (it was published with deformable branches, {deformable[0]} …: convert to saconv-deform)"


def _not_there(layer: ConvertedLayer, source: Source) -> str | None:
    """Why ``source`` has no such layer, or one that computes something else."""
    kind = type(layer).__name__
    if source not in LAYERS:
        return f"{source} has no {kind}" if layer.published_names(source) is None else layer.why_not_published(source)
    if not isinstance(layer, LAYERS[source]):
        return f"{source} has no {kind}"
    if isinstance(layer, SPConv2d):
        same = layer.kernel_size == (3, 3) and layer.padding in (1, (1, 1)) and layer.dilation == (1, 1)
        same = same and layer.stride in ((1, 1), (2, 2)) and layer.padding_mode == "zeros"
        even = isinstance(layer.gwc, nn.Conv2d)
        return None if same and even else f"{source} has 3×3 kernels in two equal groups only"
    if not isinstance(layer, SAConv2d):
        return None if layer.padding_mode == "zeros" else f"{source} pads with zeros only"
    if isinstance(layer, DeformableSAConv2d) and source == "seed":
        return f"{source} has no deformable branches"
    if source == "seed" and layer.bn is None:
        return f"{source}'s block has a norm of its own; convert with absorb"
    if source != "seed" and (layer.bn is not None or layer.act is not None) and not layer.absorbed:
        return f"{source} has no norm and no activation inside the layer"
    span = [d * (k - 1) for d, k in zip(_pair(layer.dilation), layer.kernel_size, strict=True)]
    left, right, top, bottom = narrow_padding(layer)
    exact = [2 * top, 2 * bottom, 2 * left, 2 * right] == [span[0], span[0], span[1], span[1]]
    return (
        None if exact and layer.padding_mode == "zeros" else f"{source} runs only where 2p = d(k-1), padded with zeros"
    )
