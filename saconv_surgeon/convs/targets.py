"""What a convolution can be converted to: one entry for each target, and nothing about it anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

from torch import nn

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.saconv import SAConv2d, smallest_map
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import CallShape, ConvArguments


@dataclass(frozen=True)
class Reason:
    """Why a convolution is refused: ``code`` for machines, ``text`` for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Cost:
    """What converting one convolution adds. ``macs`` is for all its calls."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Target:
    """A layer that can take the place of an ``nn.Conv2d``.

    ``refuses(conv, shapes, allow_depthwise)`` says why a convolution called at ``shapes`` cannot become this layer, or None.
    """

    name: str
    layer: type[ConvAWS2d]
    refuses: Callable[[nn.Conv2d, Iterable[CallShape], bool], Reason | None]
    added: Callable[[ConvArguments, Iterable[CallShape]], Cost]


def find_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in TARGETS:
        raise UsageError(f"no conversion target {name!r}; there is: {', '.join(sorted(TARGETS))}")
    return TARGETS[name]


def _saconv_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], allow_depthwise: bool) -> Reason | None:
    if conv.kernel_size == (1, 1):
        return Reason("kernel-1x1", "1×1 kernel: dilation has no effect")
    if conv.groups == conv.in_channels > 1 and not allow_depthwise:
        return Reason("depthwise", "depthwise: dense contexts would outweigh it (--allow-depthwise)")
    height, width = smallest_map(conv)
    for shape in shapes:
        h, w = shape.input[-2:]
        if h < height or w < width:
            return Reason(
                "map-too-small",
                f"a map of {h}x{w} is too small for padding_mode={conv.padding_mode!r} at three times the dilation, "
                f"which needs {height}x{width}",
            )
    return None


def _saconv_adds(conv: ConvArguments, shapes: Iterable[CallShape]) -> Cost:
    """SAC.md's count: Δw, two square contexts with bias, a switch with bias; the convolution runs twice."""
    c_in, c_out = conv.in_channels, conv.out_channels
    kernel = prod(conv.kernel_size) * c_in // conv.groups
    parameters = kernel * c_out + c_in**2 + c_in + c_out**2 + c_out + c_in + 1
    macs = 0
    for shape in shapes:
        batch = prod(shape.input[:-3])
        wide = prod(shape.output) * kernel
        switch = batch * c_in * prod(shape.input[-2:])
        macs += shape.calls * (wide + switch + batch * (c_in**2 + c_out**2))
    return Cost(parameters, macs)


TARGETS = {"saconv": Target("saconv", SAConv2d, _saconv_refuses, _saconv_adds)}
