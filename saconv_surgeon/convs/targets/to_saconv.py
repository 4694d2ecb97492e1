"""``--to saconv``: switchable atrous convolution (DetectoRS, arXiv 2006.02334)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from saconv_surgeon.convs.geometry import smallest_map
from saconv_surgeon.convs.saconv_parts import has_branches, has_contexts, parse_parts
from saconv_surgeon.convs.targets.target import Cost, Option, Options, Reason, Target, imported_later
from saconv_surgeon.convs.targets.to_aws import fixed_filters
from saconv_surgeon.records import CallShape, ConvArguments, ConvSite

if TYPE_CHECKING:
    from torch import nn


def saconv_refuses(conv: nn.Conv2d, shapes: Iterable[CallShape], options: Options) -> Reason | None:
    """Why ``conv`` cannot become an ``SAConv2d``, or None."""
    parts = options.get("parts", "all")
    if conv.kernel_size == (1, 1):
        # the mean of a 1×1 convolution is the convolution of the mean
        alone = "both contexts would be one linear map of the same mean, with twice the kernel's parameters or more"
        return Reason("kernel-1x1", f"1×1 kernel: {'dilation has no effect' if has_branches(parts) else alone}")
    if has_contexts(parts) and conv.groups == conv.in_channels > 1 and not options["allow_depthwise"]:
        return Reason(
            "depthwise",
            "depthwise: dense contexts would outweigh it (--allow-depthwise); --to dilated-reparam or wtconv is made for these",
        )
    if not has_branches(parts):
        return None
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


def saconv_adds(conv: ConvArguments, shapes: Iterable[CallShape], options: Options) -> Cost:
    """Contexts: two square matrices with bias. Branches: Δw, a switch with bias; the convolution runs twice."""
    parts = options.get("parts", "all")
    contexts, branches = has_contexts(parts), has_branches(parts)
    c_in, c_out = conv.in_channels, conv.out_channels
    kernel = prod(conv.kernel_size) * c_in // conv.groups
    parameters = contexts * (c_in**2 + c_in + c_out**2 + c_out) + branches * (kernel * c_out + c_in + 1)
    macs = 0
    for shape in shapes:
        batch = prod(shape.input[:-3])
        wide = prod(shape.output) * kernel
        switch = batch * c_in * prod(shape.input[-2:])
        macs += shape.calls * (branches * (wide + switch) + contexts * batch * (c_in**2 + c_out**2))
    return Cost(parameters, macs)


def saconv_notes(site: ConvSite, options: Options) -> str | None:
    """What the standardised kernel cannot do without a norm after it, and which parts can."""
    fixed = fixed_filters(site)
    if fixed is None:
        return None
    parts = options.get("parts", "all")
    wide = ["the wide branch can, by its weight_diff"] if has_branches(parts) else []
    shifts = ["contexts shift whole channels"] if has_contexts(parts) else []
    return "; ".join([fixed, *wide, *shifts])


SACONV = Target(
    "saconv",
    imported_later("saconv_surgeon.convs.saconv:SAConv2d"),
    "switchable atrous convolution (DetectoRS)",
    saconv_refuses,
    saconv_adds,
    options={
        "parts": Option(
            "all",
            parse_parts,
            "contexts (global context alone, almost no time or MACs: try it first), branches (wide branch and switch), or all",
            unwritten=True,
        )
    },
    absorbs=True,
    note=saconv_notes,
)
