"""``FoldedContexts``: a trained convolution between two global contexts, for inference, without a shifted copy of its input.

A pre-context adds p = A GAP(x) + a, one value for each channel, to the whole map. The convolution is linear, conv(x + p) =
conv(x) + conv(p), and conv(p) is a constant inside the map. Near a border that is padded with zeros some taps meet nothing of p:
there it is one of as many constants as the kernel has taps. So what both contexts do to a map is one addition, and corrections
of the rows at its border.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.convs.geometry import narrow_padding, pair
from saconv_surgeon.convs.gradients import can_look_at, needs_gradients

DTYPES = (torch.float32, torch.float64)
"""In half precision conv(x) and conv(p) would each be rounded to three digits."""


class FoldedContexts(FoldedSAConv2d):
    """:class:`FoldedSAConv2d` with contexts and one branch, which is a plain convolution.

    Computes conv(x + p) as it stands on small maps of many channels, which that is faster for, and if operations are recorded.
    """

    def _computed(self, x: Tensor) -> Tensor:
        faster = self._can_compute_apart(x) and is_faster_apart(x, self.conv.weight)
        y = self._apart(x) if faster else None
        return super()._computed(x) if y is None else y

    @property
    def conv(self) -> nn.Conv2d:
        """The branch."""
        conv = self._modules["narrow"] or self._modules["wide"]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def _can_compute_apart(self, x: Tensor) -> bool:
        """Whether there is nothing that only :class:`FoldedSAConv2d` takes care of."""
        if not can_look_at(x) or x.dtype not in DTYPES or torch.is_autocast_enabled("cpu"):
            return False
        return self.smallest is None and self._parameters["scale"] is None and not needs_gradients(x, self.conv.weight)

    def _apart(self, x: Tensor) -> Tensor | None:
        """The output; None if something is infinite or NaN, and has to be kept where it is."""
        # After a convolution every operation takes several microseconds, however small: there are as few as possible.
        conv, after = self.conv, self._modules["post_context"]
        p = self._shift_of(x)
        y: Tensor = conv(x)
        padding = conv.padding if isinstance(conv.padding, str) else pair(conv.padding)
        geometry = (pair(conv.kernel_size), pair(conv.stride), pair(conv.dilation), padding, conv.padding_mode)
        border = _border(*geometry, x.shape[-2], x.shape[-1], x.dtype)
        shifts = torch.matmul(_responses(conv, p, border.taps), border.matrix).transpose(0, 1)
        mean, row, rows = shifts.split(border.sizes, 2)  # (N, C_out, …) each
        if after is not None:
            pixels = y.shape[-2] * y.shape[-1]
            post = after.of_sum(torch.add(y.sum((2, 3)), mean.squeeze(2), alpha=pixels), pixels)  # type: ignore[operator]
            row = row + post.unsqueeze(2)
        if not _adds_up(row if after is None else post):
            return None
        y.add_(row.unsqueeze(2))
        if border.rows:
            rows, (first, last) = rows.unflatten(2, (-1, row.shape[2])), border.rows
            y[:, :, :first].add_(rows[:, :, :first])
            y[:, :, y.shape[2] - last :].add_(rows[:, :, first:])
        return y

    def _shift_of(self, x: Tensor) -> Tensor:
        """p, (N, C_in), or (1, C_in) if it is the same for all."""
        before, shift = self._modules["pre_context"], self._parameters["pre_shift"]
        if before is not None:
            return before.of_sum(x.sum((2, 3)), x.shape[-2] * x.shape[-1])  # type: ignore[operator]
        return x.new_zeros(1, x.shape[1]) if shift is None else shift.reshape(-1, x.shape[1])


def _adds_up(t: Tensor) -> bool:
    """Whether nothing in ``t`` is infinite or NaN. What is finite and too large to be added up counts as infinite."""
    with torch._C._DisableTorchDispatch():
        return math.isfinite(float(t.sum()))


def is_faster_apart(x: Tensor, kernel: Tensor) -> bool:
    """Whether it takes longer to compute x + p than conv(p) apart from conv(x).

    In nanoseconds on one core of a CPU: x + p is a new map and takes 2 for an element, most of it for pages that are touched
    first; conv(p) takes 1 for an element of the kernel, 0.1 more for each map of the batch, and 60,000 for its operations.
    """
    return 2 * x.numel() > (1.0 + 0.1 * len(x)) * kernel.numel() + 60_000


class _Border(NamedTuple):
    """What the responses of single taps, (…, taps), add up to at the outputs: ``responses @ matrix``.

    The columns of the matrix give the mean over all outputs; the outputs of a row that meets the map with all its taps; and for
    the ``rows[0]`` first and ``rows[1]`` last rows, which do not, the difference to that. ``sizes`` are their numbers. If all
    outputs are alike, taps are added up before (``taps`` is 1), and a row is a single number.
    """

    matrix: Tensor
    sizes: tuple[int, int, int]
    taps: int
    rows: tuple[int, int] | None


@lru_cache(maxsize=256)
def _border(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str | tuple[int, int],
    mode: Literal["zeros", "reflect", "replicate", "circular"],
    height: int,
    width: int,
    dtype: torch.dtype,
) -> _Border:
    conv = nn.Conv2d(1, 1, kernel, stride, padding, dilation, padding_mode=mode, device="meta")
    left, right, top, bottom = narrow_padding(conv) if mode == "zeros" else (0, 0, 0, 0)
    with torch.inference_mode(False):
        if not any((left, right, top, bottom)):
            return _Border(torch.ones(1, 2, dtype=dtype), (1, 1, 0), 1, None)
        vertical = _Axis(height, kernel[0], stride[0], dilation[0], top, bottom)
        return _zero_padded(vertical, _Axis(width, kernel[1], stride[1], dilation[1], left, right), dtype)


class _Axis(NamedTuple):
    """One axis of a map and of a convolution over it."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    def meets(self) -> Tensor:
        """1 if the tap of an output lies in the map, otherwise 0: (outputs, kernel) in float64."""
        outputs = (self.size + self.before + self.after - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        starts = [o * self.stride - self.before for o in range(outputs)]
        taps = [[float(0 <= start + self.dilation * i < self.size) for i in range(self.kernel)] for start in starts]
        return torch.tensor(taps, dtype=torch.float64)


def _zero_padded(vertical: _Axis, horizontal: _Axis, dtype: torch.dtype) -> _Border:
    down, across = vertical.meets(), horizontal.meets()
    whole = down.all(1).tolist()
    first = whole.index(True) if True in whole else len(whole)
    last = whole[first:][::-1].index(True) if True in whole else 0
    missing = down[[*range(first), *range(len(whole) - last, len(whole))]] - 1.0
    row = across.T.expand(vertical.kernel, -1, -1).flatten(0, 1)
    rows = torch.einsum("oi,qj->ijoq", missing, across).reshape(len(row), -1)
    mean = torch.outer(down.mean(0), across.mean(0)).reshape(-1, 1)
    matrix = torch.cat([mean, row, rows], 1).to(dtype)
    return _Border(matrix, (1, row.shape[1], rows.shape[1]), len(row), (first, last))


def _responses(conv: nn.Conv2d, p: Tensor, taps: int) -> Tensor:
    """What every tap alone makes of p, (N, C_in) → (C_out, N, taps); with ``taps`` of 1, all taps together."""
    kernel = conv.weight.flatten(2)
    if taps == 1:
        kernel = kernel.sum(2, keepdim=True)
    # one small product for each output channel: in one large product the kernel would have to be copied
    given = p.unflatten(1, (conv.groups, -1)).transpose(0, 1).unsqueeze(1)
    return torch.matmul(given, kernel.unflatten(0, (conv.groups, -1))).flatten(0, 1)
