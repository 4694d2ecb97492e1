"""``SPConv2d`` initialized by projection: the part of a convolution's kernel that the layer can express."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.geometry import narrow_padding, pair
from saconv_surgeon.convs.spconv_geometry import SplitLayer, first_window, group_channels

CORRELATION = 0.7
"""The correlation of neighbouring pixels in a feature map that the projection assumes. On the sample models and images of
shapes, 0.6 to 0.9 keep more of the outputs than 0 (independent pixels) or 1 (equal pixels).
"""


@torch.no_grad()
def project(layer: SplitLayer, conv: nn.Conv2d) -> None:
    """Sets ``layer``, in place, to the part of the kernel of ``conv`` that its branches can express.

    This is the least-squares fit in closed form, for inputs with independent channels whose neighbouring pixels are correlated by
    ``CORRELATION``, as in feature maps: within a group of representative channels all k×k taps; elsewhere one number for each
    pair of channels, a sum over the taps weighted by their correlation with the pooling window. Each branch gives twice its part,
    since the blend takes half of each, and the bias. The norms have the statistics of such inputs with unit variance, so that
    training and inference have the same scale.
    """
    kernel = conv.weight.double()
    wide, points = _split(layer, kernel)
    for part, weight in zip(layer.spatial, wide, strict=True):
        part.weight.copy_(weight)
    store_points(layer, points)
    bias = torch.zeros_like(kernel[:, 0, 0, 0]) if conv.bias is None else conv.bias.double()
    of_taps, _, of_window = _correlations(layer)
    energies = points.square() * of_window
    spatial = torch.cat([torch.einsum("ocp,pq,ocq->o", w.flatten(2), of_taps, w.flatten(2)) for w in wide])
    for norm, variance in (
        (layer.bn1, spatial + energies[:, : layer.representative].sum(1)),
        (layer.bn2, energies[:, layer.representative :].sum(1)),
    ):
        set_norm(norm, torch.zeros_like(variance), variance.clamp(min=0), scale=2.0, centre=bias)


def _split(layer: SplitLayer, kernel: Tensor) -> tuple[list[Tensor], Tensor]:
    """The k×k kernels of the convolution or convolutions in ``gwc``, and the (C_out, C_in) numbers of the 1×1 ones."""
    _, with_window, of_window = _correlations(layer)
    points = kernel.flatten(2) @ (with_window / of_window)
    groups = []
    for rows, columns in group_channels(layer):
        groups.append(kernel[rows, columns])
        points[rows, columns] = 0
    return ([torch.cat(groups)] if len(layer.spatial) == 1 else groups), points


def store_points(layer: SplitLayer, points: Tensor) -> None:
    """Puts the (C_out, C_in) numbers into the 1×1 convolutions, without a bias: the norm after them has one."""
    layer.pwc.weight.copy_(points[:, : layer.representative, None, None])
    layer.conv1x1.weight.copy_(points[:, layer.representative :, None, None])
    assert layer.conv1x1.bias is not None
    nn.init.zeros_(layer.conv1x1.bias)


def _correlations(layer: SplitLayer) -> tuple[Tensor, Tensor, Tensor]:
    """The correlations of an input: taps with taps, (k², k²), taps with the mean of the pooling window, (k²,), and that mean with
    itself, ().
    """
    conv = layer.spatial[0]
    left, _, top, _ = narrow_padding(conv)
    places = zip(first_window(conv), (top, left), conv.kernel_size, pair(conv.dilation), layer.stride, strict=True)
    axes = []
    for begin, pad, k, d, s in places:
        taps, window = torch.arange(k).double() * d - pad, torch.arange(s).double() + begin
        axes.append(
            (
                _correlation(taps, taps),
                _correlation(taps, window).mean(1, keepdim=True),
                _correlation(window, window).mean().reshape(1, 1),
            )
        )
    of_taps, with_window, of_window = (torch.kron(a, b).to(conv.weight.device) for a, b in zip(*axes, strict=True))
    return of_taps, with_window[:, 0], of_window[0, 0]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Between the pixels at positions ``a`` and ``b`` of an axis, (len(a), len(b))."""
    return CORRELATION ** (a[:, None] - b[None, :]).abs()


def set_norm(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, *, scale: Tensor | float, centre: Tensor) -> None:
    """Makes ``norm`` return ``scale * (x - mean) + centre``, with ``mean`` and ``variance`` as its statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    # from the stored variance, which half precision has rounded
    norm.weight.copy_(scale * torch.sqrt(norm.running_var.double() + norm.eps))
    norm.bias.copy_(centre)
