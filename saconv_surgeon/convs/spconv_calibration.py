"""``SPConv2d`` initialized by calibration: fitted by least squares to the outputs of the convolution on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from saconv_surgeon.convs.geometry import narrow_padding, pair
from saconv_surgeon.convs.spconv_geometry import SplitLayer, group_channels, halves
from saconv_surgeon.convs.spconv_projection import set_norm, store_points

POSITIONS = 32768
"""The most output positions that a fit uses: some twenty for each unknown of the largest layers of a ResNet-50."""
SHRINKAGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""How strongly the least squares are regularised towards the projection, relative to the variance of the features."""
HELD_OUT = 4
"""One image out of this many, or the last part if there is one image, chooses the shrinkage and is not fitted to."""
ROUNDS = 4
"""Rounds of fitting the norms, which change the blend that they are fitted to."""
SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
"""Shares of the full scale that are tried. If features are so large that the blend takes one branch only, a part of them,
or their mean alone, fits better.
"""
HELD = 1e-3
"""How strongly each round is regularised towards the one before."""
CHANNELS_AT_ONCE, ROWS_AT_ONCE = 32, 4096


@dataclass(frozen=True, eq=False)
class _Samples:
    """The data of a fit: values in float32, means in float64.

    ``wide`` has, for each group, the k×k neighbourhoods of its channels, (P, C·k²); ``pooled`` the input of the 1×1 convolutions,
    (P, C_in); ``targets`` the wanted outputs, (P, C_out). ``image`` says which image each of the P positions is from, and the
    ``*_means`` are over all positions of an image, (images, …).
    """

    wide: tuple[Tensor, Tensor]
    pooled: Tensor
    targets: Tensor
    image: Tensor
    wide_means: tuple[Tensor, Tensor]
    pooled_means: Tensor


@torch.no_grad()
def fit(layer: SplitLayer, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Fits ``layer`` in place, so that for ``inputs``, (N, C_in, H, W), it gives ``outputs``, (N, C_out, H_out, W_out).

    First the kernels by least squares with the blend at one half, regularised towards their present values as strongly as
    positions that are not fitted to require. Then the statistics of the norms, from the same inputs. Then, channel by channel,
    the scales of both norms and their common shift by least squares with the real blend, in a few rounds; the best is kept.
    """
    samples = _samples(layer, inputs, outputs)
    kernels = [_solve(*_system(layer, samples, i), _left_out(samples.image)) for i in range(2)]
    _store(layer, kernels)
    _fit_norms(layer, samples)


def _samples(layer: SplitLayer, inputs: list[Tensor], outputs: list[Tensor]) -> _Samples:
    images = [(x[i : i + 1], z[i : i + 1]) for x, z in zip(inputs, outputs, strict=True) for i in range(len(x))]
    share = max(POSITIONS // len(images), 1)
    generator = torch.Generator().manual_seed(0)
    wide: tuple[list[Tensor], list[Tensor]] = ([], [])
    wide_means: tuple[list[Tensor], list[Tensor]] = ([], [])
    pooled, targets, index, pooled_means = [], [], [], []
    for i, (x, z) in enumerate(images):
        x, z = x.cpu().float(), z.cpu().float()
        seen = layer.pooled(x, z).flatten(2)[0]
        chosen = torch.randperm(seen.shape[1], generator=generator)[:share].sort().values
        for group, (_, channels) in enumerate(group_channels(layer)):
            around, means = _neighbourhoods(layer, x[:, channels], chosen, z.shape[-2:])
            wide[group].append(around)
            wide_means[group].append(means)
        pooled.append(seen[:, chosen].T)
        pooled_means.append(seen.double().mean(1))
        targets.append(z[0].flatten(1)[:, chosen].T)
        index.append(torch.full((len(chosen),), i))
    return _Samples(
        (torch.cat(wide[0]), torch.cat(wide[1])),
        torch.cat(pooled),
        torch.cat(targets),
        torch.cat(index),
        (torch.stack(wide_means[0]), torch.stack(wide_means[1])),
        torch.stack(pooled_means),
    )


def _neighbourhoods(layer: SplitLayer, x: Tensor, chosen: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The inputs of the taps of a k×k convolution of (1, C, H, W): at the chosen outputs, (P, C·k_h·k_w), and their means."""
    conv = layer.spatial[0]
    left, right, top, bottom = narrow_padding(conv)
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = F.pad(x, (left, right, top, bottom), mode=mode)[0]
    (height, width), (sy, sx), (dy, dx) = size, layer.stride, pair(conv.dilation)
    rows, columns = chosen // width * sy, chosen % width * sx
    values, means = [], []
    for i in range(layer.kernel_size[0]):
        for j in range(layer.kernel_size[1]):
            values.append(x[:, rows + i * dy, columns + j * dx])
            seen = x[:, i * dy : i * dy + sy * (height - 1) + 1 : sy, j * dx : j * dx + sx * (width - 1) + 1 : sx]
            means.append(seen.double().mean((1, 2)))
    return torch.stack(values, 1).flatten(0, 1).T, torch.stack(means, 1).flatten()


def _system(layer: SplitLayer, samples: _Samples, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, targets and present coefficients of the outputs of one group."""
    rows, own = list(group_channels(layer))[group]
    other = torch.ones(layer.in_channels, dtype=torch.bool)
    other[own] = layer.stride != (1, 1)  # at stride 1 the k×k kernel has that tap already
    features = torch.cat([samples.wide[group], samples.pooled[:, other]], 1)
    start = torch.cat([_kernels(layer)[group], _points(layer)[rows][:, other]], 1)
    return features, samples.targets[:, rows], start.T


def _kernels(layer: SplitLayer) -> list[Tensor]:
    """The k×k kernels of both groups, (C_out, C·k²) each."""
    weights = [part.weight.flatten(1).cpu().double() for part in layer.spatial]
    return weights if len(weights) == 2 else list(weights[0].split(halves(layer.out_channels)))


def _points(layer: SplitLayer) -> Tensor:
    return torch.cat([layer.pwc.weight, layer.conv1x1.weight], 1).flatten(1).cpu().double()


def _left_out(image: Tensor) -> Tensor:
    """Which samples are not fitted to: whole images if there are several, since neighbouring outputs are alike."""
    last = int(image[-1])
    if last > 0:
        return image > last - max((last + 1) // HELD_OUT, 1)
    return torch.arange(len(image)) >= len(image) - len(image) // HELD_OUT


def _solve(features: Tensor, targets: Tensor, start: Tensor, left_out: Tensor) -> Tensor:
    """Coefficients (features, outputs) that give ``targets`` up to a constant, regularised towards ``start``.

    The rows that are left out choose how strongly. They are left out in every layer: after layers that were fitted to them, they
    would say nothing.
    """
    if not bool(left_out.any()):
        return start
    solved = [*_ridge(features[~left_out], targets[~left_out], start), start]
    errors = [_error(features[left_out], targets[left_out], found) for found in solved]
    return solved[errors.index(min(errors))]


def _ridge(features: Tensor, targets: Tensor, start: Tensor) -> Iterator[Tensor]:
    middle, centre = features.double().mean(0), targets.double().mean(0)
    gram = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    wanted = torch.zeros_like(start)
    for x, z in zip(features.split(ROWS_AT_ONCE), targets.split(ROWS_AT_ONCE), strict=True):
        x, z = x - middle.float(), z - centre.float()  # float32 is twice as fast; sums over blocks are in float64
        gram += x.T @ x
        wanted += x.T @ (z - x @ start.float())
    scale = gram.diagonal()
    scale = scale.clamp(min=float(scale.max()) * 1e-6 + torch.finfo(scale.dtype).tiny)
    for strength in SHRINKAGES:
        factor = torch.linalg.cholesky(gram + torch.diag(strength * scale))
        yield start + torch.cholesky_solve(wanted, factor)


def _error(features: Tensor, targets: Tensor, coefficients: Tensor) -> float:
    missed = targets - features @ coefficients.float()
    return float((missed - missed.mean(0)).double().square().sum())


def _store(layer: SplitLayer, kernels: list[Tensor]) -> None:
    """Puts the coefficients of both groups into the convolutions."""
    points = torch.zeros(layer.out_channels, layer.in_channels, dtype=torch.float64)
    wide = []
    for (rows, own), found in zip(group_channels(layer), kernels, strict=True):
        size = (own.stop - own.start) * layer.kernel_size[0] * layer.kernel_size[1]
        wide.append(found[:size].T.reshape(-1, own.stop - own.start, *layer.kernel_size))
        other = torch.ones(layer.in_channels, dtype=torch.bool)
        other[own] = layer.stride != (1, 1)
        points[rows, other.nonzero()[:, 0]] = found[size:].T
    for part, weight in zip(layer.spatial, [torch.cat(wide)] if len(layer.spatial) == 1 else wide, strict=True):
        part.weight.copy_(weight)
    store_points(layer, points)


# ------------------------------------------------------------------ the norms


@dataclass(frozen=True, eq=False)
class _Branch:
    """The input of a norm, centred: at the samples, (P, C_out), and as the mean of each image, (images, C_out)."""

    values: Tensor
    image_means: Tensor
    mean: Tensor
    variance: Tensor


def _branches(layer: SplitLayer, samples: _Samples) -> tuple[_Branch, _Branch]:
    """Both branches before their norms, with the kernels of the layer."""
    points, r = _points(layer), layer.representative
    kernels = _kernels(layer)

    def representative(wide: tuple[Tensor, Tensor], pooled: Tensor) -> Tensor:
        spatial = torch.cat([x @ kernel.T.to(x.dtype) for x, kernel in zip(wide, kernels, strict=True)], 1)
        return (spatial + pooled[:, :r] @ points[:, :r].T.to(pooled.dtype)).double()

    def uncertain(pooled: Tensor) -> Tensor:
        return (pooled[:, r:] @ points[:, r:].T.to(pooled.dtype)).double()

    return (
        _centred(
            representative(samples.wide, samples.pooled), representative(samples.wide_means, samples.pooled_means)
        ),
        _centred(uncertain(samples.pooled), uncertain(samples.pooled_means)),
    )


def _centred(values: Tensor, image_means: Tensor) -> _Branch:
    mean = values.mean(0)
    return _Branch(values - mean, image_means - mean, mean, values.var(0, correction=int(len(values) > 1)))


def _fit_norms(layer: SplitLayer, samples: _Samples) -> None:
    branches = _branches(layer, samples)
    centre = samples.targets.double().mean(0)
    fitted = torch.stack([torch.full_like(centre, 2.0), torch.full_like(centre, 2.0), centre], 1)
    for some in torch.arange(layer.out_channels).split(CHANNELS_AT_ONCE):
        u, v = (_of_channels(branch, some) for branch in branches)
        fitted[some] = _fit_some(u, v, samples.targets[:, some].double(), samples.image, fitted[some])
    for norm, branch, scale in zip((layer.bn1, layer.bn2), branches, fitted[:, :2].unbind(1), strict=True):
        set_norm(norm, branch.mean, branch.variance, scale=scale, centre=fitted[:, 2])


def _of_channels(branch: _Branch, some: Tensor) -> _Branch:
    return _Branch(branch.values[:, some], branch.image_means[:, some], branch.mean[some], branch.variance[some])


def _fit_some(u: _Branch, v: _Branch, targets: Tensor, image: Tensor, start: Tensor) -> Tensor:
    """The scales of both norms and their common shift, (C, 3), for some channels; each channel keeps its best.

    With a shift for each, the branches could drift apart until the blend takes only one of them, if images are alike.
    """
    tried = [start * torch.tensor([share, share, 1.0], dtype=start.dtype) for share in SHARES]
    errors = torch.stack([_missed(u, v, targets, image, fitted) for fitted in tried])
    least, choice = errors.min(0)
    best = current = torch.stack(tried).gather(0, choice[None, :, None].expand(1, -1, 3))[0]
    fitted_to = ~_left_out(image)
    for _ in range(ROUNDS):
        gate = _gate(u, v, current)[image]
        design = torch.stack([gate * u.values, (1 - gate) * v.values, torch.ones_like(gate)], 2)[fitted_to]  # (P, C, 3)
        gram = torch.einsum("pci,pcj->cij", design, design)
        held = torch.diag_embed(gram.diagonal(dim1=1, dim2=2) * HELD + torch.finfo(gram.dtype).tiny)
        wanted = torch.einsum("pci,pc->ci", design, targets[fitted_to]) + (held @ current.unsqueeze(2)).squeeze(2)
        current = torch.linalg.lstsq(gram + held, wanted.unsqueeze(2), driver="gelsd").solution.squeeze(2)
        missed = _missed(u, v, targets, image, current)
        better = missed < least
        best = torch.where(better[:, None], current, best)
        least = torch.where(better, missed, least)
    return best


def _gate(u: _Branch, v: _Branch, fitted: Tensor) -> Tensor:
    """The share of the representative branch in the blend, (images, C)."""
    return torch.sigmoid(fitted[:, 0] * u.image_means - fitted[:, 1] * v.image_means)


def _missed(u: _Branch, v: _Branch, targets: Tensor, image: Tensor, fitted: Tensor) -> Tensor:
    """The error of each channel, (C,), with the blend of the layer: of the fitted samples plus that of the others.

    If features are large, the blend of one image may be the opposite of another's.
    """
    a, b, shift = fitted.unbind(1)
    blended = torch.lerp(b * v.values, a * u.values, _gate(u, v, fitted)[image]) + shift
    squares, left_out = (targets - blended).square(), _left_out(image)
    error = squares[~left_out].mean(0)
    return error + squares[left_out].mean(0) if bool(left_out.any()) else error
