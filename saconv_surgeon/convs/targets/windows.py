"""What several targets ask of a convolution's window, and how often it is applied."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Options, Reason
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn


def no_window(conv: nn.Conv2d) -> Reason | None:
    """Why ``conv`` has no window with a pixel at its centre and others around it, or None."""
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: there is no window to have branches in")
    if any(k % 2 == 0 for k in conv.kernel_size):
        return Reason("kernel-even", "kernel of an even size: no pixel is at the centre of its window")
    return None


def one_pixel(shapes: Iterable[CallShape]) -> Reason | None:
    """Why norms of branches cannot be trained on the output maps, or None."""
    if any(prod(shape.output[-2:]) == 1 for shape in shapes):
        return Reason(
            "map-of-one", "its output is one pixel: the norms of branches have too little to take statistics of"
        )
    return None


def not_depthwise(conv: nn.Conv2d) -> Reason | None:
    """Why ``conv`` is not one that keeps its channels apart, or None."""
    if not conv.groups == conv.in_channels == conv.out_channels:
        return Reason("not-depthwise", "not depthwise: this target is for convolutions that keep channels apart")
    return None


def outputs(conv: ConvArguments, shapes: Iterable[CallShape]) -> int:
    """The positions of all calls: N·H_out·W_out."""
    return sum(s.calls * prod(s.output) // conv.out_channels for s in shapes)


def inputs(conv: ConvArguments, shapes: Iterable[CallShape]) -> int:
    """The pixels of all calls: N·H·W."""
    return sum(s.calls * prod(s.input) // conv.in_channels for s in shapes)


def nothing_left(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """What a target costs after folding that becomes the one convolution it was."""
    return Cost(0, 0)
