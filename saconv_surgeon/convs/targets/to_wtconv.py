"""``--to wtconv``: wavelet convolution (Finder et al., ECCV 2024, arXiv 2407.05848)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.targets.target import Cost, Option, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.windows import no_window, not_depthwise
from saconv_surgeon.records import CallShape, ConvArguments

if TYPE_CHECKING:
    from torch import nn

BANDS = 4


def _levels(text: str) -> int:
    levels = int(text)
    if not 1 <= levels <= 5:
        raise ValueError("it is not from 1 to 5")
    return levels


def _refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    if conv.kernel_size == (1, 1) or any(k % 2 == 0 for k in conv.kernel_size):
        return no_window(conv)
    return not_depthwise(conv)


def _adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """For each level four bands with a kernel and a scale each, and the transform there and back."""
    channels, taps = conv.in_channels, prod(conv.kernel_size)
    bands = BANDS * channels
    macs = 0
    for shape in shapes:
        height, width = shape.input[-2:]
        for _ in range(options["levels"]):
            height, width = -(-height // 2), -(-width // 2)
            macs += shape.calls * prod(shape.input[:-3]) * bands * height * width * (taps + 2 * BANDS)
    return Cost(channels + options["levels"] * bands * (taps + 1), macs)


WTCONV = Target(
    "wtconv",
    imported_later("saconv_surgeon.convs.wtconv:WTConv2d"),
    "convolutions of wavelet bands beside a depthwise one: reach doubles with each level",
    _refuses,
    _adds,
    options={"levels": Option("1", _levels, "how often the low band is split, from 1 to 5")},
    after_folding=_adds,
)
