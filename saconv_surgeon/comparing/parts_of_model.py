"""The parts of a model, as they are aligned with those of another."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from saconv_surgeon.comparing.part_tree import Description, Part, tree_of
from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.converted import ConvertedLayer


def tree(model: nn.Module) -> Part:
    """Every module of ``model`` by each of its paths; a converted layer is one part, its contexts come and go with it."""
    return tree_of(_descriptions(model))


def kernel_of(module: nn.Module) -> Tensor | None:
    """The kernel that a layer multiplies with: its weight, or what standardisation makes of it."""
    if isinstance(module, ConvAWS2d):
        return module.standardised_weight().to(module.weight.dtype)
    return module._parameters.get("weight")  # one that is computed, as a parametrised one is, may move when it is read


def parts_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules by path, without what is inside converted layers."""
    layer = None
    for path, module in model.named_modules(remove_duplicate=False):
        if layer is not None and path.startswith(layer):
            continue
        layer = (f"{path}." if path else "") if isinstance(module, ConvertedLayer) else None
        yield path, module


def _descriptions(model: nn.Module) -> Iterator[Description]:
    for path, module in parts_of(model):
        yield path, type(module).__name__, module.extra_repr(), _mark(module)


def _mark(module: nn.Module) -> str:
    """The same for equal weights, and cheap."""
    telling = [kernel_of(module), getattr(module, "running_mean", None)]
    known = [t.detach() for t in telling if isinstance(t, Tensor) and not (t.is_meta or t.is_quantized)]
    return " ".join(f"{float(t.double().sum())!r}" for t in known if t.layout is torch.strided and not t.is_complex())
