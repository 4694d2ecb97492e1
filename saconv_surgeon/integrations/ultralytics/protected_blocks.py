"""Blocks around converted layers, which Ultralytics' ``fuse()`` passes by. Pickles name these classes by this module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from ultralytics.nn.modules.block import RepVGGDW
from ultralytics.nn.modules.conv import Conv, Conv2, RepConv

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.integrations.layers_in_models import RECORD
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import configuration_of, record_surgery


class SurgicalBlock(nn.Module):
    """A block around a converted layer, which ``fuse()`` and ``is_fused()`` do not take for one of theirs.

    Attributes and state-dict keys are those of the block whose place it takes; ``plain_class`` is that block's class.
    """

    plain_class: type[nn.Module]


class SurgicalConv(SurgicalBlock):
    """``Conv`` or ``DWConv`` with a converted convolution: convolution, norm, activation."""

    forward = Conv.forward


class SurgicalConv2(SurgicalBlock):
    """``Conv2`` of which a branch is converted: the sum of a k×k and a 1×1 convolution, norm, activation."""

    forward = Conv2.forward


class SurgicalRepConv(SurgicalBlock):
    """``RepConv`` of which a branch is converted, so that its branches cannot be merged."""

    forward = RepConv.forward


class SurgicalRepVGGDW(SurgicalBlock):
    """``RepVGGDW`` of which a branch is converted, so that its branches cannot be merged."""

    forward = RepVGGDW.forward


PROTECTING: Mapping[Callable[..., Any], type[SurgicalBlock]] = {
    Conv.forward: SurgicalConv,
    Conv2.forward: SurgicalConv2,
    RepConv.forward: SurgicalRepConv,
    RepVGGDW.forward: SurgicalRepVGGDW,
}
"""By what a block computes: ``DWConv`` and other subclasses that only differ in their constructor are found with it."""


def protect(model: nn.Module) -> None:
    """Makes ``fuse()`` pass by the blocks of ``model`` that hold a converted layer, or whose norm was folded, in place.

    Nothing else changes: no attribute, state-dict key or output. The other blocks are fused as ever. Blocks that are fused
    already are left alone: they have no norm that could be folded. Doing it twice changes nothing the second time.
    """
    guard(model)
    for block in model.modules():
        if _would_be_fused(block) and any(map(_is_not_for_fusing, block.modules())):
            _protect_block(block)
    record_surgery(model)


def unprotect(model: nn.Module) -> None:
    """Undoes :func:`protect` in place, for a model whose own convolutions are put back."""
    for block in model.modules():
        if isinstance(block, SurgicalBlock):
            block.__class__ = vars(block).pop("plain_class")
    configuration = configuration_of(model)
    if configuration is not None:
        configuration.pop(RECORD, None)


def _is_not_for_fusing(part: nn.Module) -> bool:
    return isinstance(part, ConvertedLayer) or isinstance(getattr(part, "bn", None), nn.Identity)


def _would_be_fused(block: nn.Module) -> bool:
    if isinstance(block, Conv):
        return hasattr(block, "bn")
    return isinstance(block, (RepConv, RepVGGDW)) and hasattr(block, "conv1")


def _protect_block(block: nn.Module) -> None:
    protecting = PROTECTING.get(type(block).forward)
    if protecting is None:
        warnings.warn(
            f"{type(block).__name__} has a forward of its own and cannot be protected: fuse(), which val, predict and export "
            "call, will corrupt its converted convolution. Leave it out of the conversion, or don't derive it from "
            "an Ultralytics block",
            stacklevel=3,
        )
        return
    plain = type(block)
    block.__class__ = protecting
    vars(block)["plain_class"] = plain
