"""Convolutions of other classes than ``nn.Conv2d`` that compute what a layer of this package can compute.

Two kinds are known: convolutions with a norm and an activation inside, as Detectron2 writes them, and published switchable or
standardised layers that were pasted into a model. Their forward is code of their own, so each is tried: it is taken for one of
these only if it gives, in inference and in training, what that would give.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.aws import STATISTICS, ConvAWS2d
from saconv_surgeon.convs.converted import ACTIVATION, NORM, ConvertedLayer
from saconv_surgeon.convs.deformable import DeformableSAConv2d
from saconv_surgeon.convs.geometry import pair, settings_of
from saconv_surgeon.convs.known_norms_and_activations import is_norm
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.models.running.state import preserved_randomness
from saconv_surgeon.models.tree.paths import paths_of
from saconv_surgeon.surgery.published_checkpoints import load_published

NORM_NAMES, ACTIVATION_NAMES = ("norm", "bn"), ("activation", "act")
FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    F.relu6: nn.ReLU6,
    F.leaky_relu: nn.LeakyReLU,
    F.elu: nn.ELU,
    F.silu: nn.SiLU,
    F.gelu: nn.GELU,
    F.mish: nn.Mish,
    F.hardswish: nn.Hardswish,
    torch.sigmoid: nn.Sigmoid,
    torch.tanh: nn.Tanh,
}
"""Activations that are functions, and their modules."""
SWITCHABLE = frozenset({"weight_diff", "switch.weight", "pre_context.weight", "post_context.weight", *STATISTICS})
OFFSETS = frozenset({"offset_s.weight", "offset_l.weight"})
CLOSE = 1e-4
"""Relative to the largest value: published layers add in another order."""


@dataclass(frozen=True, eq=False)
class OwnConvolution:
    """What a convolution of another class computes.

    ``inside`` has the names of the modules that become parts of the layer: ``{"bn": "norm", "act": "activation"}``. ``published``
    is the kind of a pasted layer.
    """

    inside: Mapping[str, str] = field(default_factory=dict)
    published: type[ConvAWS2d] | None = None

    @property
    def what(self) -> str:
        """In words."""
        if self.published is not None:
            return f"a published layer, as {self.published.__name__}"
        return "a convolution with a norm and an activation inside"


def recognised(module: nn.Module) -> OwnConvolution | None:
    """What ``module``, which is left as it was, computes; None if that is not known."""
    if not isinstance(module, nn.Conv2d) or type(module) is nn.Conv2d or isinstance(module, ConvertedLayer):
        return None
    names = {*module._parameters, *module._buffers, *module._modules}
    published = _published_kind(module)
    found = OwnConvolution(_parts_of(module), published)
    known = {*("weight", "bias"), *found.inside.values()}
    if published is None:
        has_slots = any(name in names or name in vars(module) for name in (*NORM_NAMES, *ACTIVATION_NAMES))
        if not has_slots or not {name for name in names if getattr(module, name) is not None} <= known:
            return None
    return found if _computes(module, found) else None


def layer_of(module: nn.Conv2d, found: OwnConvolution, kind: type[ConvertedLayer], **options: Any) -> ConvertedLayer:
    """The layer of class ``kind`` that computes what ``module`` does; it may take over its tensors.

    Raises:
        ValueError: ``kind`` does not fit it.
    """
    layer: Any = kind.taking(module, **options) if found.published is None else _from_published(module, kind, **options)
    for part, name in found.inside.items():
        value = getattr(module, name)
        value = value if isinstance(value, nn.Module) else FUNCTIONS[value]()
        vars(layer).pop(name, None)
        setattr(layer, part, value.train(module.training))
    layer.renamed = dict(found.inside)
    made: ConvertedLayer = layer
    return made


def take_over_published(model: nn.Module) -> nn.Module:
    """Puts layers of this package in the places of pasted ones, in place; ``model`` itself, or its layer if it is one."""
    paths = paths_of(model)
    for module in list(model.modules()):
        found = recognised(module)
        if found is None or found.published is None:
            continue
        assert isinstance(module, nn.Conv2d)
        layer = layer_of(module, found, found.published)
        layer.path = paths[id(module)][0] or type(layer).__name__
        if module is model:
            return layer
        for path in paths[id(module)]:
            model.set_submodule(path, layer)
    return model


def _published_kind(module: nn.Conv2d) -> type[ConvAWS2d] | None:
    names = set(module.state_dict())
    if names >= SWITCHABLE:
        return DeformableSAConv2d if names >= OFFSETS else SAConv2d
    return ConvAWS2d if names >= set(STATISTICS) and not names & SWITCHABLE - set(STATISTICS) else None


def _parts_of(module: nn.Conv2d) -> dict[str, str]:
    """The names of a norm and of an activation that it holds, by the name of the part that they become."""
    found: dict[str, str] = {}
    for name in NORM_NAMES:
        value = module._modules.get(name)
        if value is not None and is_norm(value):
            found.setdefault(NORM, name)
    for name in ACTIVATION_NAMES:
        value = getattr(module, name, None)
        if isinstance(value, nn.Module) or (callable(value) and isinstance(value, Hashable) and value in FUNCTIONS):
            found.setdefault(ACTIVATION, name)
    return found


def _from_published(module: nn.Conv2d, kind: type[Any], **options: Any) -> ConvertedLayer:
    """A layer of class ``kind`` with the tensors of a pasted one, whose bias counts if it does there."""
    where = {"device": module.weight.device, "dtype": module.weight.dtype}
    layer = kind(**settings_of(module), bias=module.bias is not None, **where, **options)
    own = set(layer.state_dict())
    state = {name: value for name, value in module.state_dict().items() if name in own}
    used = layer.bias is None or _uses_bias(module)
    if isinstance(layer, SAConv2d) and set(state) >= SWITCHABLE and not used:
        load_published(layer, state, "mmcv")
    else:
        layer.load_state_dict(state, strict=False)
        if not used:
            nn.init.zeros_(layer.bias)
    for name, parameter in layer.named_parameters():
        old = dict(module.named_parameters()).get(name, module.weight)
        parameter.requires_grad_(old.requires_grad)
    made: ConvertedLayer = layer.train(module.training)
    return made


def _uses_bias(module: nn.Conv2d) -> bool:
    """Whether the output changes with the bias: the article's standardised convolution ignores it."""
    trial, x = copy.deepcopy(module).eval(), next(_probes(module))
    assert trial.bias is not None
    with torch.no_grad():
        before = trial(x)
        trial.bias.add_(1)
        return not torch.equal(trial(x), before)


def _computes(module: nn.Conv2d, found: OwnConvolution) -> bool:
    """Whether ``module`` gives what a layer would, on maps of two sizes, in inference and in training."""
    try:
        with torch.no_grad(), preserved_randomness():
            return all(_agrees(module, found, training) for training in (False, True))
    except Exception:  # its own code may need anything
        return False


def _agrees(module: nn.Conv2d, found: OwnConvolution, training: bool) -> bool:
    theirs = copy.deepcopy(module).train(training)
    if found.published is not None:  # one that has not been trained would hide what its new parts do
        generator = torch.Generator().manual_seed(1)
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter) * 0.1)
    wanted = _expected(copy.deepcopy(theirs), found)
    for x in _probes(module):
        a, b = theirs(x.clone()), wanted(x.clone())
        if a.shape != b.shape or not (a - b).abs().max() <= (CLOSE if found.published else 0.0) * b.abs().max():
            return False
    return True


def _expected(module: nn.Conv2d, found: OwnConvolution) -> Callable[[Tensor], Tensor]:
    if found.published is not None:
        return layer_of(module, found, found.published).train(module.training)
    parts = [getattr(module, found.inside[part]) for part in (NORM, ACTIVATION) if part in found.inside]

    def run(x: Tensor) -> Tensor:
        y = module._conv_forward(x, module.weight, module.bias)
        for part in parts:
            y = part(y)
        return y

    return run


def _probes(module: nn.Conv2d) -> Iterator[Tensor]:
    """Random maps that are large enough for the kernel, small and large in value."""
    sides = [d * (k - 1) + 1 for k, d in zip(module.kernel_size, pair(module.dilation), strict=True)]
    where: dict[str, Any] = {"device": module.weight.device, "dtype": module.weight.dtype}
    generator = torch.Generator().manual_seed(0)
    for n, extra, scale in ((2, 6, 1.0), (3, 9, 30.0)):
        shape = (n, module.in_channels, sides[0] + extra, sides[1] + extra + 1)
        yield (torch.randn(shape, generator=generator) * scale).to(**where)
