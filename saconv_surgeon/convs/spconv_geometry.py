"""How an ``SPConv2d`` divides its channels and pools its input. Only numbers: imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from saconv_surgeon.convs.geometry import kernel_span, narrow_padding, pair

if TYPE_CHECKING:
    from torch import Tensor, nn


class SplitLayer(Protocol):
    """The parts of an ``SPConv2d`` that its projection and its calibration use."""

    in_channels: int
    out_channels: int
    representative: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, int]
    pwc: nn.Conv2d
    conv1x1: nn.Conv2d
    bn1: nn.BatchNorm2d
    bn2: nn.BatchNorm2d

    @property
    def spatial(self) -> list[nn.Conv2d]:
        """The k×k convolutions: one in two groups, or one for each group."""

    def pooled(self, x: Tensor, like: Tensor) -> Tensor:
        """The input of the 1×1 convolutions, (N, C, H_out, W_out)."""


def representative_channels(channels: int, ratio: Fraction) -> int:
    """⌊αC⌋: how many of the first input channels are representative."""
    return int(channels * ratio)


def halves(n: int) -> tuple[int, int]:
    """Sizes of the two groups of the k×k convolution; the first is larger by one if ``n`` is odd."""
    return n - n // 2, n // 2


def group_channels(layer: SplitLayer) -> Iterator[tuple[slice, slice]]:
    """The output and the input channels of the first group, then of the second."""
    outputs, inputs = halves(layer.out_channels), halves(layer.representative)
    yield slice(0, outputs[0]), slice(0, inputs[0])
    yield slice(outputs[0], layer.out_channels), slice(inputs[0], layer.representative)


def first_window(conv: nn.Conv2d) -> tuple[int, int]:
    """The first pixel, (y, x), of the pooling window of the first output: s×s pixels in the middle of the kernel's reach.

    If the middle is between two pixels, a window starts at the later one, as the published 2×2 pool does; with stride 1 the
    window is the earlier pixel, as the centre is in SAConv. Negative if the window starts outside the map.
    """
    left, _, top, _ = narrow_padding(conv)
    steps = zip(kernel_span(conv), pair(conv.stride), strict=True)
    margin = [reach // 2 if s == 1 else -((s - 1 - reach) // 2) for reach, s in steps]
    return margin[0] - top, margin[1] - left


def pools_exactly(conv: nn.Conv2d) -> bool:
    """Whether pooling from the edge of the map gives one pixel for every output at any size: 2p = d(k-1), as published."""
    left, right, top, bottom = narrow_padding(conv)
    return first_window(conv) == (0, 0) and (top + bottom, left + right) == kernel_span(conv)
