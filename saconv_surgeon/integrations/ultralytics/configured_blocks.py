"""The blocks that a configuration can name after ``register()``, each made from the plain block that it is the kin of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.block import C2f, C3k2
from ultralytics.nn.modules.conv import Conv

from saconv_surgeon.convs.block import SAConvBlock
from saconv_surgeon.convs.geometry import settings_of
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.integrations.ultralytics.protected_blocks import protect


class C2f_SAConv(C2f):
    """``C2f`` whose spatial convolutions are ``SAConv2d``: same arguments, and same names of what both have.

    (N, c1, H, W) → (N, c2, H, W). A new block computes what the plain one would, and plain weights load into it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        use_saconv(self)


class C3k2_SAConv(C3k2):
    """``C3k2`` whose spatial convolutions are ``SAConv2d``: same arguments, and same names of what both have.

    (N, c1, H, W) → (N, c2, H, W). A new block computes what the plain one would, and plain weights load into it. Depthwise
    convolutions, which its form with attention has, stay plain.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        use_saconv(self)


def use_saconv(block: nn.Module) -> None:
    """Makes the spatial convolutions inside ``block`` switchable, in place; depthwise and 1×1 ones are left."""
    for part in block.modules():
        conv = part.conv if isinstance(part, Conv) else None
        if type(conv) is nn.Conv2d and max(conv.kernel_size) > 1 and not 1 < conv.in_channels == conv.groups:
            part.conv = SAConv2d.taking(conv)
    protect(block)


@dataclass(frozen=True)
class Word:
    """A word of configurations: the plain block that is scaled in its place, and how that becomes the block meant."""

    kin: type[nn.Module]
    made_from: Callable[[Any], nn.Module]
    result: type[nn.Module]
    most_arguments: int | None = None
    """How many arguments a configuration may give."""


def _block_from(plain: Conv) -> SAConvBlock:
    conv = plain.conv
    where = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.groups, conv.dilation, plain.act)
    block = SAConvBlock(conv.in_channels, conv.out_channels, *settings, **where)
    block.bn = plain.bn
    _take_kernel(block, conv)
    return block


def _bare_from(plain: Conv) -> SAConv2d:
    conv = plain.conv
    layer = SAConv2d(**settings_of(conv), device=conv.weight.device, dtype=conv.weight.dtype)
    _take_kernel(layer, conv)
    return layer


@torch.no_grad()
def _take_kernel(layer: SAConv2d, conv: nn.Conv2d) -> None:
    """The layer computes what ``conv`` does, which has no bias."""
    layer.load_state_dict({"weight": conv.weight.detach()}, strict=False)
    assert layer.bias is not None
    layer.bias.zero_()


def _as_class(kind: type[nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def made_from(plain: nn.Module) -> nn.Module:
        plain.__class__ = kind
        use_saconv(plain)
        return plain

    return made_from


WORDS: Mapping[str, Word] = {
    "SAConv2d": Word(Conv, _bare_from, SAConv2d, most_arguments=6),
    "SAConvBlock": Word(Conv, _block_from, SAConvBlock, most_arguments=7),
    "C2f_SAConv": Word(C2f, _as_class(C2f_SAConv), C2f_SAConv),
    "C3k2_SAConv": Word(C3k2, _as_class(C3k2_SAConv), C3k2_SAConv),
}
"""What ``register()`` adds. ``SAConv2d`` is the bare convolution; ``SAConvBlock`` has the norm and activation of a ``Conv``."""
