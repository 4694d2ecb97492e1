"""What a convolution was built with, as plain numbers."""

from __future__ import annotations

from itertools import chain
from typing import Any

from torch.nn.modules.conv import _ConvNd

from saconv_surgeon.models.tree.kernel_shape import by_kernel
from saconv_surgeon.records import ConvArguments, Shape


def conv_arguments(module: _ConvNd) -> ConvArguments:
    """What ``module`` was built with, or what its kernel says if that was replaced by one of another shape, as plain numbers."""
    module = by_kernel(module)
    padding = module.padding
    return ConvArguments(
        in_channels=module.in_channels,
        out_channels=module.out_channels,
        kernel_size=_numbers(module.kernel_size),
        stride=_numbers(module.stride),
        padding=padding if isinstance(padding, str) else _numbers(padding),
        dilation=_numbers(module.dilation),
        groups=module.groups,
        bias=module.bias is not None,
        padding_mode=module.padding_mode,
        dtype=_dtype_of(module),
    )


def _dtype_of(module: _ConvNd) -> str:
    """Of the kernel, or of what it is computed from: reading a parametrised kernel would compute it, and move its state."""
    kernel = module._parameters.get("weight")
    held = next(chain([kernel] if kernel is not None else [], module.parameters(), module.buffers()), None)
    return "unknown" if held is None else str(held.dtype).removeprefix("torch.")


def _numbers(value: Any) -> Shape:
    return tuple(int(v) for v in (value if isinstance(value, (tuple, list)) else (value, value)))
