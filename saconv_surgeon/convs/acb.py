"""``ACBConv2d``: a convolution with a column and a row beside it. Source: ACNet (Ding et al., ICCV 2019, arXiv 1908.03930)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saconv_surgeon.convs.branches import Branch, SmallKernel
from saconv_surgeon.convs.mergeable import MergeableConv2d


class ACBConv2d(MergeableConv2d):
    """``act(bn(conv(x)) + bn_v(conv_kx1(x)) + bn_h(conv_1xk(x)))`` (section 3.2): the kernel's skeleton is learnt twice.

    Kernels of odd sizes larger than 1 in both directions, at any dilation.
    """

    def make_branches(self, where: Mapping[str, Any]) -> dict[str, Branch]:
        """See :class:`MergeableConv2d`."""
        height, width = self.kernel_size
        return {"column": SmallKernel(self, (height, 1), **where), "row": SmallKernel(self, (1, width), **where)}

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: the authors' ``ACBlock``."""
        if source != "acnet":
            return None
        square = {"weight": "square_conv.weight", "bn.": "square_bn."}
        column = {"column.conv.": "ver_conv.", "column.bn.": "ver_bn."}
        return square | column | {"row.conv.": "hor_conv.", "row.bn.": "hor_bn."}
