"""``DBBConv2d``: a convolution with diverse branches. Source: DBB (Ding et al., CVPR 2021, arXiv 2103.13425)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.branches import Branch, Merged, SmallKernel, padded_with_shift, window
from saconv_surgeon.convs.geometry import pair
from saconv_surgeon.convs.mergeable import MergeableConv2d


class Padded(nn.Module):
    """A norm under the name that the authors' layer, which also pads, has for it."""

    def __init__(self, channels: int, **where: Any) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, **where)

    def forward(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """(N, C, H, W) → the norm of x, padded as ``conv`` pads."""
        return padded_with_shift(x, self.bn, conv)


class Average(Branch):
    """1×1, norm, mean of the window, norm (transform V); without the first two for depthwise convolutions."""

    def __init__(self, conv: nn.Conv2d, **where: Any) -> None:
        super().__init__()
        mixes = mixes_channels(conv)
        kernel = nn.Conv2d(conv.in_channels, conv.out_channels, 1, groups=conv.groups, bias=False, **where)
        self.conv = kernel if mixes else None
        self.bn = Padded(conv.out_channels, **where) if mixes else None
        self.avgbn = nn.BatchNorm2d(conv.out_channels, **where)

    @property
    def last(self) -> nn.Module:
        """See :class:`Branch`."""
        return self.avgbn

    def forward(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """See :class:`Branch`."""
        x = window(x, conv, (0, 0)) if self.conv is None or self.bn is None else self.bn(self.conv(x), conv)
        normed: Tensor = self.avgbn(F.avg_pool2d(x, conv.kernel_size, pair(conv.stride)))
        return normed

    def merged(self, conv: nn.Conv2d) -> Merged:
        """See :class:`Branch`."""
        taps = conv.kernel_size[0] * conv.kernel_size[1]
        if self.conv is None or self.bn is None:
            kernel = torch.ones(conv.weight.shape, dtype=torch.float64, device=conv.weight.device)
            point = Merged(kernel[:, :, :1, :1], kernel.new_zeros(conv.out_channels))
        else:
            kernel = self.conv.weight.detach().double()
            point = Merged(kernel, kernel.new_zeros(conv.out_channels)).through(self.bn.bn)
        spread = point.kernel.expand(-1, -1, *conv.kernel_size) / taps
        return Merged(spread, point.bias).through(self.avgbn)


class Sequence(Branch):
    """1×1, norm, k×k, norm (transform III). The 1×1 kernel is the identity plus what is learnt, unless its width is another."""

    def __init__(self, conv: nn.Conv2d, **where: Any) -> None:
        super().__init__()
        same = mixes_channels(conv)
        between = conv.in_channels if same else 2 * conv.in_channels  # as the authors have it for depthwise ones
        self.from_identity = same
        groups = conv.groups
        self.conv1 = nn.Conv2d(conv.in_channels, between, 1, groups=groups, bias=False, **where)
        self.bn1 = Padded(between, **where)
        size = (conv.kernel_size[0], conv.kernel_size[1])
        self.conv2 = nn.Conv2d(between, conv.out_channels, size, groups=groups, bias=False, **where)
        self.bn2 = nn.BatchNorm2d(conv.out_channels, **where)

    @property
    def last(self) -> nn.Module:
        """See :class:`Branch`."""
        return self.bn2

    def silence(self, generator: torch.Generator | None) -> None:
        """See :class:`Branch`; what is learnt of a 1×1 kernel that starts as the identity starts at zero."""
        super().silence(generator)
        if self.from_identity:
            nn.init.zeros_(self.conv1.weight)

    def first_kernel(self) -> Tensor:
        """The 1×1 kernel, (between, C_in/groups, 1, 1)."""
        learnt = self.conv1.weight
        if not self.from_identity:
            return learnt
        per_group = learnt.shape[1]
        channel = torch.arange(learnt.shape[0], device=learnt.device)
        identity = F.one_hot(channel % per_group, per_group).to(learnt.dtype)
        return learnt + identity[..., None, None]

    def forward(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """See :class:`Branch`."""
        x = self.bn1(F.conv2d(x, self.first_kernel(), groups=conv.groups), conv)
        y = F.conv2d(x, self.conv2.weight, None, pair(conv.stride), 0, pair(conv.dilation), conv.groups)
        normed: Tensor = self.bn2(y)
        return normed

    def merged(self, conv: nn.Conv2d) -> Merged:
        """See :class:`Branch`."""
        kernel = self.first_kernel().detach().double()
        first = Merged(kernel, kernel.new_zeros(kernel.shape[0])).through(self.bn1.bn)
        second = self.conv2.weight.detach().double()
        groups = conv.groups
        mixing = first.kernel[:, :, 0, 0].unflatten(0, (groups, -1))  # (g, between/g, C_in/g)
        taps = second.unflatten(0, (groups, -1))  # (g, C_out/g, between/g, H, W)
        whole = torch.einsum("gombw,gmi->goibw", taps, mixing).flatten(0, 1)
        shift = torch.einsum("gombw,gm->go", taps, first.bias.unflatten(0, (groups, -1))).flatten()
        return Merged(whole, shift).through(self.bn2)


class DBBConv2d(MergeableConv2d):
    """``act(bn(conv(x)))`` with a 1×1, an average and a 1×1–k×k branch added before ``act`` (figure 2 and section 3.3).

    Depthwise convolutions have the last two only, without what mixes channels, as the authors' have. Kernels of odd sizes; the
    average is taken at dilation 1 only, and left out elsewhere.
    """

    def make_branches(self, where: Mapping[str, Any]) -> dict[str, Branch]:
        """See :class:`MergeableConv2d`."""
        branches: dict[str, Branch] = {}
        if mixes_channels(self):
            branches["point"] = SmallKernel(self, (1, 1), **where)
        if pair(self.dilation) == (1, 1):
            branches["average"] = Average(self, **where)
        return branches | {"sequence": Sequence(self, **where)}

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: the authors' ``DiverseBranchBlock``."""
        if source != "dbb":
            return None
        origin = {"weight": "dbb_origin.conv.weight", "bn.": "dbb_origin.bn."}
        first = "idconv1" if mixes_channels(self) else "conv1"
        branches = {"point.": "dbb_1x1.", "average.": "dbb_avg.", "sequence.": "dbb_1x1_kxk."}
        return origin | branches | {"sequence.conv1.": f"dbb_1x1_kxk.{first}."}


def mixes_channels(conv: nn.Conv2d) -> bool:
    """Whether an output of ``conv`` depends on more than one input channel, or an input goes to more than one output."""
    return not conv.groups == conv.in_channels == conv.out_channels
