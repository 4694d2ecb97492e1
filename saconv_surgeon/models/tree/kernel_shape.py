"""Convolutions whose kernel was replaced by one of another shape: torch runs the kernel, whatever the attributes say."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.conv import _ConvNd

C = TypeVar("C", bound=_ConvNd)


def by_kernel(conv: C) -> C:
    """``conv``, or, if its attributes do not agree with its kernel, a shallow copy of which they do. Shares every tensor."""
    settings = _settings_of_kernel(conv)
    if not _differs(conv, settings):
        return conv
    twin = copy.copy(conv)
    _set(twin, settings)
    return twin


def set_by_kernel(conv: nn.Conv2d) -> None:
    """Makes the attributes of ``conv`` agree with its kernel, in place; its outputs stay."""
    settings = _settings_of_kernel(conv)
    if _differs(conv, settings):
        _set(conv, settings)


def _differs(conv: _ConvNd, settings: dict[str, Any]) -> bool:
    return any(getattr(conv, name) != value for name, value in settings.items())


def _settings_of_kernel(conv: _ConvNd) -> dict[str, Any]:
    """The channels and the size of the kernel, as ``F.conv2d`` takes them from it; {} for other kinds of convolutions."""
    weight = conv._parameters.get("weight")
    if type(conv) is not nn.Conv2d or type(weight) is not nn.Parameter or weight.dim() != 4:
        return {}
    c_out, c_in, *size = weight.shape
    return {"in_channels": c_in * conv.groups, "out_channels": c_out, "kernel_size": tuple(size)}


def _set(conv: _ConvNd, settings: dict[str, Any]) -> None:
    vars(conv).update(settings)
    # other modes pad by what was worked out when it was built
    if conv.padding == "same" and conv.padding_mode == "zeros":
        dilation = conv.dilation if isinstance(conv.dilation, (tuple, list)) else (conv.dilation,) * 2
        totals = [d * (k - 1) for d, k in zip(dilation, conv.kernel_size, strict=True)]
        padding = [part for total in reversed(totals) for part in (total // 2, total - total // 2)]
        conv._reversed_padding_repeated_twice = padding
