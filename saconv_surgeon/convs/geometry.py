"""Where the two branches and the switch of a switchable convolution read its input; for every layer of the kind."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from saconv_surgeon.convs.gradients import projected

RATE = 3
"""How many times further apart the taps of the wide branch are."""
POOL = 5
"""Side of the window over which the switch averages."""


def settings_of(conv: nn.Conv2d) -> dict[str, Any]:
    """The arguments that ``conv`` would be built with, but for bias, device and dtype."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {name: getattr(conv, name) for name in names}


def wide_forward(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution at three times the dilation of ``conv``, aligned with the narrow one.

    Raises:
        ValueError: The map is too small for the padding mode.
    """
    dilation = wide_dilation(conv)
    if conv.padding_mode == "zeros" and conv.padding == "same":
        return F.conv2d(x, weight, bias, 1, "same", dilation, conv.groups)
    left, right, top, bottom = wide_padding(conv)
    padding: tuple[int, int] = (top, left)
    if conv.padding_mode != "zeros":
        check_size(smallest_map(conv), x, conv)
        x = F.pad(x, (left, right, top, bottom), mode=conv.padding_mode)
        padding = (0, 0)
    return F.conv2d(x, weight, bias, conv.stride, padding, dilation, conv.groups)


class Centres(NamedTuple):
    """Where the outputs of a convolution have their centres: how far apart, and how far the first is from the first input.

    ``aligned`` says that pooling over every ``stride``-th window gives one value for every output.
    """

    stride: tuple[int, int]
    offset: tuple[int, int]
    aligned: bool

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Centres:
        """From the arguments of ``conv``, as they are now."""
        left, right, top, bottom = narrow_padding(conv)
        span = [d * (k - 1) for d, k in zip(_pair(conv.dilation), conv.kernel_size, strict=True)]
        offset = (span[0] // 2 - top, span[1] // 2 - left)
        aligned = offset == (0, 0) and [top + bottom, left + right] == span
        return cls(_pair(conv.stride), offset, aligned)


def switch_at(centres: Centres, x: Tensor, like: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """S at the centre of every output, (N, 1, H_out, W_out) as ``like``, the output, has them.

    The published order averages x over 5×5 and then projects C channels to one; both steps are linear and act on
    different axes, so projecting first gives the same S to rounding without two copies of x.

    Args:
        centres: Says where the outputs are.
        x: (N, C_in, H, W), after the pre-context.
        like: (N, C_out, H_out, W_out).
        weight: (1, C_in, 1, 1).
        bias: (1,).
    """
    seen = pad_edges(projected(x, weight), POOL // 2)
    if centres.aligned:
        pooled = F.avg_pool2d(seen, POOL, centres.stride)
    else:
        pooled = F.avg_pool2d(seen, POOL, 1)
        for axis, step, offset in zip((-2, -1), centres.stride, centres.offset, strict=True):
            last = _positions(x, axis)[-1]
            pooled = pooled.index_select(axis, (_positions(like, axis) * step + offset).clamp(min=0).minimum(last))
    return pooled + bias


def check_size(smallest: tuple[int, int], x: Tensor, layer: nn.Module) -> None:
    """Raises ``ValueError`` where a map is smaller than the padding mode of the layer's wide branch can pad."""
    height, width = smallest
    if x.shape[-2] >= height and x.shape[-1] >= width:
        return
    kind, path = type(layer).__name__, getattr(layer, "path", None)
    name = f"{kind} at {path!r}" if path else f"{kind}({layer.extra_repr()})"
    raise ValueError(
        f"{name}: a map of {x.shape[-2]}x{x.shape[-1]} is too small for padding_mode={layer.padding_mode!r} of its wide "
        f"branch, which needs at least {height}x{width}; use larger inputs or leave this convolution out of the conversion"
    )


def narrow_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """What ``conv`` pads with: (left, right, top, bottom)."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        return left, right, top, bottom
    vertical, horizontal = _pair(conv.padding)
    return horizontal, horizontal, vertical, vertical


def wide_dilation(conv: nn.Conv2d) -> tuple[int, int]:
    """(vertical, horizontal)."""
    vertical, horizontal = _pair(conv.dilation)
    return RATE * vertical, RATE * horizontal


def wide_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """What the branch at three times the dilation pads with: p + d(k-1)(r-1)/2 on each side, r = 3."""
    left, right, top, bottom = narrow_padding(conv)
    vertical, horizontal = (
        d * (k - 1) * (RATE - 1) // 2 for d, k in zip(_pair(conv.dilation), conv.kernel_size, strict=True)
    )
    return left + horizontal, right + horizontal, top + vertical, bottom + vertical


def smallest_map(conv: nn.Conv2d) -> tuple[int, int]:
    """The smallest (H, W) that the padding mode of the wide branch can pad."""
    return smallest_padded(wide_padding(conv), conv.padding_mode)


def smallest_padded(padding: tuple[int, int, int, int], mode: str) -> tuple[int, int]:
    """The smallest (H, W) that can be padded so much, (left, right, top, bottom)."""
    extra = {"reflect": 1, "circular": 0}.get(mode)
    if extra is None:
        return 1, 1
    left, right, top, bottom = padding
    return max(top, bottom, 1 - extra) + extra, max(left, right, 1 - extra) + extra


def pad_edges(x: Tensor, size: int) -> Tensor:
    """Reflects ``size`` pixels at every edge; repeats the edge along an axis that is too short to be reflected."""
    if _has_unknown_size(x):
        # Asking which of the two cases it is would bind the traced graph to one of them.
        for axis in (-2, -1):
            x = x.index_select(axis, _edge_indices(x, axis, size))
        return x
    height, width = x.shape[-2:]
    if height > size and width > size:
        return F.pad(x, (size, size, size, size), mode="reflect")
    modes = ["reflect" if side > size else "replicate" for side in (height, width)]
    x = F.pad(x, (0, 0, size, size), mode=modes[0])
    return F.pad(x, (size, size, 0, 0), mode=modes[1])


def _edge_indices(x: Tensor, axis: int, size: int) -> Tensor:
    """Which position of an axis every position of the padded one repeats."""
    inside = _positions(x, axis)
    last = inside[-1]
    positions = F.pad(torch.ones_like(inside), (size, size), value=1).cumsum(0) - 1 - size
    reflected = last - (last - positions.abs()).abs()
    return torch.where(last >= size, reflected, positions.clamp(min=0).minimum(last))


def _positions(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 … along the last or last but one axis of ``x``.

    Counted rather than asked for where the size is not known yet: a size in the graph would become an argument of the layer.
    """
    if not _has_unknown_size(x):
        return torch.arange(x.shape[axis], device=x.device)
    line = x[0, 0, :, 0] if axis == -2 else x[0, 0, 0, :]
    return torch.ones_like(line, dtype=torch.int64).cumsum(0) - 1


def _has_unknown_size(x: Tensor) -> bool:
    """Whether ``x`` is being traced for maps of any size."""
    return any(isinstance(side, torch.SymInt) for side in x.shape[-2:])
