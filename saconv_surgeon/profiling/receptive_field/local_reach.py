"""A model run for its reach alone: which pixels a value depends on, whatever the weights are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from saconv_surgeon.convs.geometry import pair
from saconv_surgeon.convs.saconv import SAConv2d

CONVOLUTIONS = {torch.conv2d, F.conv2d, torch.conv_transpose2d}
ADAPTIVE_MAX_POOLS = {F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices}
MAX_POOLS = {F.max_pool2d, torch.max_pool2d, F.max_pool2d_with_indices}
SAME = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.silu, F.gelu, F.mish, F.hardswish, F.hardtanh, F.prelu, F.softplus, F.relu_,
    torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.dropout, F.dropout2d,
}  # fmt: skip
"""What works at each position by itself."""
SCALED = {
    torch.sigmoid, F.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, F.hardsigmoid, torch.tanh, Tensor.tanh,
    F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, torch.batch_norm, torch.layer_norm, torch.group_norm,
}  # fmt: skip
"""Likewise, and it bounds its values, which would grow from gate to gate without that. The statistics of norms over whole maps
are left out, as means are."""
MEANS = {
    F.adaptive_avg_pool2d, torch.mean, Tensor.mean, torch.amax, Tensor.amax, torch.sum, Tensor.sum,
    F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices,
}  # fmt: skip


class LocalReach(TorchFunctionMode):
    """Inside, weights are positive and drawn at random, activations and norms are the identity, and a maximum is a mean.

    The gradient of an output is then not zero for any input that can matter: weights that are all equal would cancel where a
    model takes differences. Means over whole maps give no gradient and are counted in ``global_means``: through them everything
    depends on everything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.global_means = 0
        self.draw = torch.Generator().manual_seed(0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in SAME:
            return args[0]
        if func in SCALED:
            most = args[0].detach().abs().amax().clamp_min(torch.finfo(args[0].dtype).tiny)
            return args[0] / (2 * most)  # never 1, so that what is weighted by the rest of a gate stays
        if func in CONVOLUTIONS:
            return self._convolution(func, args, kwargs)
        if func in MAX_POOLS:
            return _mean_pool(*args, **kwargs)
        if func is F.linear:
            return func(args[0], self._weights(args[1], args[0].dtype))
        result = func(*args, **kwargs)
        if func in ADAPTIVE_MAX_POOLS:
            indices = result[1] if isinstance(result, tuple) else None
            result = F.adaptive_avg_pool2d(args[0], args[1] if len(args) > 1 else kwargs["output_size"])
            if _is_global(args[0], result):
                self.global_means += 1
                result = result.detach()
            return result if indices is None else (result, indices)
        if func in MEANS and _is_global(args[0], result):
            self.global_means += 1
            return result.detach()
        return result

    def _convolution(self, func: Callable[..., Tensor], args: Any, kwargs: Any) -> Tensor:
        names = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        weight = names["weight"]
        rest = {name: value for name, value in kwargs.items() if name not in ("input", "weight", "bias")}
        return func(names["input"], self._weights(weight, names["input"].dtype), None, *args[3:], **rest)

    def _weights(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Between a half and one and a half, divided by how many are added up."""
        drawn = 0.5 + torch.rand(like.shape, generator=self.draw, dtype=torch.float64)
        return (drawn / max(like[0].numel(), 1)).to(like.device, dtype)


def _mean_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As max pooling, with means; the indices are those of the maxima. A dilated one is the convolution that it is."""
    with torch.no_grad():
        most, indices = F.max_pool2d(
            x, kernel_size, stride or None, padding, dilation, ceil_mode=ceil_mode, return_indices=True
        )
    if pair(dilation) == (1, 1):
        found = F.avg_pool2d(x, kernel_size, stride or None, padding, ceil_mode)
    else:
        kernel = x.new_ones(x.shape[1], 1, *pair(kernel_size))
        wide = F.pad(x, (0, x.shape[-1], 0, x.shape[-2])) if ceil_mode else x
        found = F.conv2d(wide, kernel, None, stride or kernel_size, padding, dilation, x.shape[1])
        found = found[..., : most.shape[-2], : most.shape[-1]]
    return (found, indices) if return_indices else found


def _is_global(x: Tensor, result: Any) -> bool:
    """Whether a whole map became one value."""
    if not isinstance(x, Tensor) or x.dim() < 3 or not isinstance(result, Tensor):
        return False
    if x.shape[-2:].numel() == 1 or result.shape[-2:] == x.shape[-2:]:
        return False
    return result.dim() < x.dim() or result.shape[-2:].numel() == 1


def reach_only(model: nn.Module) -> None:
    """Lets the switchable layers of a copy of a model, which is changed, compute what their two branches reach alone."""
    for layer in model.modules():
        if isinstance(layer, SAConv2d):
            layer.forward = _both_branches(layer)  # type: ignore[method-assign, assignment]


def _both_branches(layer: SAConv2d) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        narrow = layer._conv_forward(x, layer.weight, None)
        return narrow if layer.switch is None else narrow + layer._wide_forward(x, layer.weight)

    return forward
