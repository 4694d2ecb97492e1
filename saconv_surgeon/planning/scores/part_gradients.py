"""The gradients of the parts that a switchable layer would have, from the input and the output gradient of its convolution.

All parts start at zero, where the layer computes its convolution; so nothing has to be converted. With x the input, u the output
of the convolution, δ the gradient of the loss at u, and GAP the mean over a map, every sample has for itself

* pre-context, x + A GAP(x) + a: the gradient of a constant added to each channel of x, s = Σ (∂L/∂x), and s GAP(x)ᵀ;
* post-context, u + B GAP(u) + c: s = Σ δ, and s GAP(u)ᵀ;
* switch, S u + (1 - S) v with v the wide branch: Σ_c δ (u - v) at every position, taken back through the mean over 5×5;
* Δw: exactly zero at the start, since 1 - S is. What is taken instead is the gradient of a kernel V in u + conv(x; V, 3d), a wide
  branch that is already switched on. It stands for what switch and Δw can do together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.geometry import (
    Centres,
    narrow_padding,
    pair,
    smallest_map,
    wide_dilation,
    wide_padding,
)
from saconv_surgeon.convs.switch import averaged, switch_at
from saconv_surgeon.planning.scores.sketch import projected, projection

Part = Literal["pre_context", "post_context", "switch", "wide"]
PARTS: tuple[Part, ...] = ("pre_context", "post_context", "switch", "wide")
WIDE_CHANNELS = 16
"""Of the wide kernel, which has a gradient for each tap as well, so many channels are kept on either side."""


@dataclass(frozen=True)
class PartGradient:
    """The gradient of one part, and the second moments of its two factors.

    At every output position p the gradient is an outer product of something at the output, o(p), and something at the input,
    i(p); ``rows``, (N, blocks, taps, O, I), is their sum over the positions. ``outer`` is the mean of o oᵀ over samples and
    positions, (blocks, O, O), and ``inner`` that of i iᵀ, (blocks, I, I).
    """

    rows: Tensor
    outer: Tensor
    inner: Tensor


@dataclass(frozen=True)
class Convolution:
    """A convolution and the kernel that it uses; ``conv`` has its geometry, ``seed`` is that of the projections."""

    conv: nn.Conv2d
    kernel: Tensor
    seed: int = 0

    def gradients(self, x: Tensor, delta: Tensor, mean: Tensor) -> dict[Part, PartGradient]:
        """By part, of every sample; channels are projected if they are many.

        Args:
            x: (N, C_in, H, W), the input.
            delta: (N, C_out, H_out, W_out), the gradient at the output.
            mean: (N, C_out), the mean of the output.
        """
        shift = self._of_input_shift(delta, x.shape[-2:])
        moments = _moments(delta)
        through = self._summed_kernel().to(moments)  # what a constant added to the input adds to the output
        found: dict[Part, PartGradient] = {
            "pre_context": self._of_context(shift, through.T @ moments @ through, x.mean((2, 3))),
            "post_context": self._of_context(delta.sum((2, 3)), moments, mean),
        }
        height, width = smallest_map(self.conv)
        if x.shape[-2] >= height and x.shape[-1] >= width:
            found["switch"] = self._of_switch(x, delta)
            found["wide"] = self._of_wide(x, delta)
        return found

    def _of_context(self, s: Tensor, moments: Tensor, mean: Tensor) -> PartGradient:
        """Of s meanᵀ and s, each (N, C)."""
        p, q = projection(s.shape[1], self.seed), projection(s.shape[1], self.seed + 1)
        inner = _with_one(projected(mean, q))
        outer = projected(projected(moments, p).T, p)
        rows = projected(s, p)[:, :, None] * inner[:, None, :]
        return PartGradient(rows[:, None, None], outer[None], (inner.T @ inner / len(inner))[None])

    def _summed_kernel(self) -> Tensor:
        """(C_out, C_in): the sum over the taps; zero between groups."""
        sums, groups = self.kernel.sum((2, 3)), self.conv.groups
        return sums if groups == 1 else torch.block_diag(*sums.chunk(groups))

    def _of_input_shift(self, delta: Tensor, size: tuple[int, ...]) -> Tensor:
        """(N, C_in): of a constant added to each channel of the input; padding by zeros stays zero.

        Σ over outputs and taps of kernel · δ, each tap at the outputs at which it reads a pixel of the map.
        """
        conv, kernel = self.conv, self.kernel
        groups, taps = conv.groups, kernel.shape[-2:]
        left, _, top, _ = narrow_padding(conv)
        padded = conv.padding_mode != "zeros"
        sums = []
        for i in range(taps[0]):
            rows = delta if padded else delta[:, :, _reached(conv, 0, i, top, size[0], delta.shape[2])]
            row = rows.sum(2)
            for j in range(taps[1]):
                columns = row if padded else row[:, :, _reached(conv, 1, j, left, size[1], delta.shape[3])]
                sums.append(columns.sum(2))
        total = torch.stack(sums, -1).unflatten(1, (groups, -1))  # N, groups, C_out / groups, taps
        per_group = kernel.flatten(2).unflatten(0, (groups, -1)).to(total)
        return torch.einsum("ngot,goct->ngc", total, per_group).flatten(1)

    def _of_switch(self, x: Tensor, delta: Tensor) -> PartGradient:
        """Of the weight and the bias of the switch."""
        conv, kernel = self.conv, self.kernel.to(x)
        narrow = self._convolved(x, kernel, wide=False)
        sigma = (delta * narrow.sub_(self._convolved(x, kernel, wide=True))).sum(1, keepdim=True)
        p = projection(x.shape[1], self.seed + 4)
        given = x if p is None else torch.matmul(p.T.to(x), x.flatten(2)).unflatten(2, x.shape[2:])
        line = x.new_zeros((x.shape[0], 1, *x.shape[2:])).requires_grad_()
        one, none = x.new_ones(1, 1, 1, 1), x.new_zeros(1)
        with torch.enable_grad():
            (back,) = torch.autograd.grad(
                switch_at(Centres.of(conv), line, delta, one, none, guarded=False), line, sigma
            )
        weight = torch.bmm(given.flatten(2), back.flatten(2).transpose(1, 2)).squeeze(2)
        rows = torch.cat([weight, sigma.sum((1, 2, 3))[:, None]], 1)
        seen = averaged(given)
        inner = _moments(torch.cat([seen, torch.ones_like(seen[:, :1])], 1))
        return PartGradient(rows[:, None, None, None], sigma.square().mean().reshape(1, 1, 1), inner[None])

    def _of_wide(self, x: Tensor, delta: Tensor) -> PartGradient:
        """Of a kernel in the wide branch; a block for each group."""
        conv, groups = self.conv, self.conv.groups
        most = max(2, int(WIDE_CHANNELS / groups**0.5))
        inside = self._per_group(x, groups, most, 2)
        wanted = self._per_group(delta, groups, most, 3)
        given = F.pad(inside, wide_padding(conv), mode=_mode(conv))
        stride, dilation = pair(conv.stride), wide_dilation(conv)
        height, width = delta.shape[-2:]
        found = []
        for i in range(conv.kernel_size[0]):
            for j in range(conv.kernel_size[1]):
                top, left = i * dilation[0], j * dilation[1]
                seen = given[
                    ...,
                    top : top + (height - 1) * stride[0] + 1 : stride[0],
                    left : left + (width - 1) * stride[1] + 1 : stride[1],
                ]
                found.append(torch.bmm(wanted.flatten(2), seen.flatten(2).transpose(1, 2)).unflatten(0, (-1, groups)))
        return PartGradient(torch.stack(found, 2), _moments(wanted, groups), _moments(inside, groups))

    def _per_group(self, t: Tensor, groups: int, most: int, seed: int) -> Tensor:
        """(N, C, H, W) → (N · groups, channels, H, W), the channels of each group projected to ``most`` of them."""
        per_group = t.unflatten(1, (groups, -1)).flatten(0, 1)
        p = projection(per_group.shape[1], self.seed + seed, most)
        if p is None:
            return per_group
        return torch.matmul(p.T.to(t), per_group.flatten(2)).unflatten(2, t.shape[-2:])

    def _convolved(self, x: Tensor, kernel: Tensor, *, wide: bool) -> Tensor:
        conv = self.conv
        padding = wide_padding(conv) if wide else narrow_padding(conv)
        dilation = wide_dilation(conv) if wide else conv.dilation
        padded = F.pad(x, padding, mode=_mode(conv))
        return F.conv2d(padded, kernel, None, conv.stride, 0, dilation, conv.groups)


def _with_one(t: Tensor) -> Tensor:
    return torch.cat([t, torch.ones_like(t[:, :1])], 1)


def _moments(t: Tensor, groups: int | None = None) -> Tensor:
    """(N, C, H, W) → (C, C), the mean of t tᵀ over samples and positions; (N · groups, C, H, W) → (groups, C, C)."""
    products = torch.bmm(t.flatten(2), t.flatten(2).transpose(1, 2)) / (t.shape[2] * t.shape[3])
    return products.mean(0) if groups is None else products.unflatten(0, (-1, groups)).mean(0)


def _mode(conv: nn.Conv2d) -> str:
    return "constant" if conv.padding_mode == "zeros" else conv.padding_mode


def _reached(conv: nn.Conv2d, axis: int, tap: int, before: int, size: int, outputs: int) -> slice:
    """The outputs along an axis at which a tap reads a pixel of the map, not of the padding before and after it."""
    stride, shift = pair(conv.stride)[axis], before - tap * pair(conv.dilation)[axis]
    first = max(-(-shift // stride), 0)
    last = min((size - 1 + shift) // stride, outputs - 1)
    return slice(first, max(last + 1, first))
