"""GFLOPs as Ultralytics prints them (``model.info()``, summaries, ``get_flops``), right for converted layers.

Ultralytics counts with thop, by rules for classes of modules: a convolution without a module, as the wide branch is, is not
seen, and what a subclass of ``nn.Conv2d`` does is taken for one convolution. A rule that is given to thop also makes it fit
costs that do not grow with the image, as those of the contexts, instead of multiplying them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.integrations.patching import wrap

PRODUCTS = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.MultiheadAttention)
"""Modules whose multiply-adds are counted as they are carried out; for norms and the like thop's own rules hold."""


def count_converted_layers() -> None:
    """Gives thop, if it is installed, a rule for the converted layers of each model that it profiles; others as ever."""
    try:
        thop = import_module("thop")
    except ImportError:  # Ultralytics prints no GFLOPs then
        return
    wrap(thop, "profile", _with_rules)


def _with_rules(stock: Callable[..., Any]) -> Callable[..., Any]:
    def profile(model: nn.Module, inputs: Any, custom_ops: Any = None, *args: Any, **kwargs: Any) -> Any:
        kinds = {type(module) for module in model.modules() if isinstance(module, ConvertedLayer)}
        rules = dict.fromkeys(kinds, count_layer)
        return stock(model, inputs, {**rules, **(custom_ops or {})} if rules else custom_ops, *args, **kwargs)

    return profile


def count_layer(layer: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """A rule for thop: adds what one call of a converted layer computes to its ``total_ops``.

    That are the multiply-adds of all products, and average pools as thop counts them. Modules that are no products (norms of the
    block, for one) keep what thop's own rules say; like these, nothing counts element-wise sums.
    """
    parts = [part for part in layer.modules() if part is not layer and "total_ops" in vars(part)]
    counted = {part: vars(part)["total_ops"] for part in parts}
    layer.total_ops += operations(layer, inputs)
    for part, value in counted.items():  # running the layer again has counted its parts again
        vars(part)["total_ops"] = 0 if isinstance(part, (*PRODUCTS, ConvertedLayer)) else value


def operations(layer: nn.Module, inputs: tuple[Any, ...]) -> int:
    """The multiply-adds of products, and the sums and divisions of pools, that ``layer`` carries out on ``inputs``."""
    counter = FlopCounterMode(display=False, custom_mapping=_rules())
    # Ultralytics runs models on memory that was never written; on what is not finite a layer works twice
    ones = [torch.ones_like(given) if isinstance(given, Tensor) else given for given in inputs]
    with torch.inference_mode(False), torch.no_grad(), counter:
        layer.forward(*ones)
    return counter.get_total_flops() // 2


def _rules() -> dict[Any, Callable[..., int]]:
    """What torch's own counter does not know, in its units: two for a multiply-add, so also two for an operation of a pool."""
    rules: dict[Any, Callable[..., int]] = {torch.ops.aten.mean: _mean, torch.ops.aten.avg_pool2d: _average_pool}
    for rule in rules.values():
        rule._get_raw = True  # type: ignore[attr-defined]  # tensors, not shapes
    deformable = getattr(torch.ops.torchvision, "deform_conv2d", None)  # there once a layer that calls it has run
    return rules if deformable is None else {**rules, deformable: _deformable_convolution}


def _mean(x: Tensor, dim: Any = None, *rest: Any, out_val: Tensor, **options: Any) -> int:
    """A global average pool; the means of kernels do not count, as nothing does that does not depend on the image."""
    is_pool = dim is not None and x.dim() == 4 and sorted(axis % 4 for axis in dim) == [2, 3]
    return 2 * (x.numel() + out_val.numel()) if is_pool else 0


def _average_pool(x: Tensor, kernel: list[int], *rest: Any, out_val: Tensor, **options: Any) -> int:
    return 2 * out_val.numel() * (prod(kernel) + 1)


def _deformable_convolution(x: Any, weight: Any, *rest: Any, out_shape: Any, **options: Any) -> int:
    return 2 * prod(out_shape) * prod(weight[1:])
