"""The switch S of a switchable convolution: a 5×5 average of its input, projected to one channel, at every output position.

Small maps are padded by repeating the edge where they are too short to be reflected.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from saconv_surgeon.convs.geometry import Centres
from saconv_surgeon.convs.gradients import finite_or, projected

POOL = 5
"""Side of the window over which the switch averages."""


def switch_at(
    centres: Centres, x: Tensor, like: Tensor, weight: Tensor, bias: Tensor, *, guarded: bool = True
) -> Tensor:
    """S at the centre of every output, (N, 1, H_out, W_out).

    The published order averages x over 5×5 and then projects C channels to one. Both steps are linear and act on
    different axes, so projecting first gives the same S to rounding and saves two copies of x.

    Args:
        centres: The positions of the outputs.
        x: (N, C_in, H, W), after the pre-context.
        like: The output of the convolution, (N, C_out, H_out, W_out); only its size is used.
        weight: (1, C_in, 1, 1).
        bias: (1,).
        guarded: Whether S is 1, the narrow branch alone, in the 5×5 windows around a pixel that is not finite.
    """
    padded = pad_edges(projected(x, weight), POOL // 2)
    if centres.aligned:
        pooled = F.avg_pool2d(padded, POOL, centres.stride)
    else:
        pooled = F.avg_pool2d(padded, POOL, 1)
        for axis, step, offset in zip((-2, -1), centres.stride, centres.offset, strict=True):
            last = _positions(x, axis)[-1]
            pooled = pooled.index_select(axis, (_positions(like, axis) * step + offset).clamp(min=0).minimum(last))
    switch = pooled + bias
    return finite_or(switch, 1.0) if guarded else switch


def averaged(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, H, W): the mean over 5×5 around every pixel, the edges padded as for the switch."""
    return F.avg_pool2d(pad_edges(x, POOL // 2), POOL, 1)


def pad_edges(x: Tensor, size: int) -> Tensor:
    """Pads every edge by ``size`` reflected pixels; repeats the edge along an axis that is too short for that."""
    if _has_unknown_size(x):
        # Asking which of the two it is would bind the traced graph to one of them.
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
    """For every position of the padded axis, the position of ``x`` that it repeats."""
    inside = _positions(x, axis)
    last = inside[-1]
    positions = F.pad(torch.ones_like(inside), (size, size), value=1).cumsum(0) - 1 - size
    reflected = last - (last - positions.abs()).abs()
    return torch.where(last >= size, reflected, positions.clamp(min=0).minimum(last))


def _positions(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 … along the last or last but one axis of ``x``.

    Counted, not read from the shape, if the size is not known yet: a size in the graph would become an argument of the layer.
    """
    if not _has_unknown_size(x):
        return torch.arange(x.shape[axis], device=x.device)
    line = x[0, 0, :, 0] if axis == -2 else x[0, 0, 0, :]
    return torch.ones_like(line, dtype=torch.int64).cumsum(0) - 1


def _has_unknown_size(x: Tensor) -> bool:
    """Whether ``x`` is being traced for maps of any size."""
    return any(isinstance(side, torch.SymInt) for side in x.shape[-2:])
