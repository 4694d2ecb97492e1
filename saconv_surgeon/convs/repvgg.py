"""``RepVGGConv2d``: a convolution with a 1×1 and an identity branch.

Source: RepVGG (Ding et al., CVPR 2021, arXiv 2101.03697).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saconv_surgeon.convs.branches import Branch, Identity, SmallKernel
from saconv_surgeon.convs.geometry import pair
from saconv_surgeon.convs.mergeable import MergeableConv2d


class RepVGGConv2d(MergeableConv2d):
    """``act(bn(conv(x)) + bn1(conv1x1(x)) + bn2(x))`` (section 3.3), the last only with as many outputs as inputs, at stride 1.

    Kernels of odd sizes, at any dilation: the branches read the pixel at the centre of the window.
    """

    def make_branches(self, where: Mapping[str, Any]) -> dict[str, Branch]:
        """See :class:`MergeableConv2d`."""
        branches: dict[str, Branch] = {"point": SmallKernel(self, (1, 1), **where)}
        if self.in_channels == self.out_channels and pair(self.stride) == (1, 1):
            branches["identity"] = Identity(self.out_channels, **where)
        return branches

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: the authors' ``RepVGGBlock``."""
        if source != "repvgg":
            return None
        dense = {"weight": "rbr_dense.conv.weight", "bn.": "rbr_dense.bn."}
        return dense | {"point.": "rbr_1x1.", "identity.norm.": "rbr_identity."}
