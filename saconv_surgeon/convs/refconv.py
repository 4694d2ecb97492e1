"""``RefConv2d``: a convolution with a refocused kernel. Source: RefConv (Cai et al., 2023, arXiv 2310.10563)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from saconv_surgeon.convs.mergeable import MergeableConv2d

SIZE = 3
"""Of the learnt kernel over the kernel, as published."""


class RefConv2d(MergeableConv2d):
    """A convolution with the kernel ``W + W * R``: W, the trained kernel, is constant, and R, a convolution over it, is learnt.

    W is a map of C_out·C_in/groups channels, one for each of its planes; R is a 3×3 convolution over it in
    C_out·C_in/groups² groups (section 3.2), so that a plane learns from those of the other groups at its place. R starts at zero.

    ``weight`` has ``requires_grad`` False; a model that is unfrozen trains it too, which changes nothing else.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        planes = self.out_channels * self.in_channels // self.groups
        groups = planes // self.groups
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.convmap = nn.Conv2d(planes, planes, SIZE, padding=SIZE // 2, groups=groups, bias=False, **where)
        self._reset_new_parameters()

    @classmethod
    def _around(cls, conv: nn.Conv2d, *args: Any, **options: Any) -> Self:
        layer = super()._around(conv, *args, **options)
        nn.Module.get_parameter(layer, "weight").requires_grad_(False)
        return layer

    def kernel(self) -> Tensor:
        """See :class:`MergeableConv2d`."""
        planes = self.weight.reshape(1, -1, *self.kernel_size)
        return self.weight + self.convmap(planes).reshape(self.weight.shape)

    def is_at_rest(self) -> bool:
        """See :class:`MergeableConv2d`."""
        return super().is_at_rest() and not bool(self.convmap.weight.any())

    def to_conv2d(self) -> nn.Conv2d:
        """See :class:`MergeableConv2d`; its kernel can be trained if R can."""
        conv = super().to_conv2d()
        conv.weight.requires_grad_(self.convmap.weight.requires_grad)
        return conv

    def contributions(self, x: Tensor) -> dict[str, Tensor]:
        """See :class:`ConvertedLayer`: what W gives, and what R adds."""
        base = self._conv_forward(x, self.weight, self.bias)
        whole = self._conv_forward(x, self.kernel(), self.bias)
        return {"conv": base, "convmap": whole - base}

    def _reset_new_parameters(self) -> None:
        if "convmap" in self._modules:  # not while the base class is built
            nn.init.zeros_(self.convmap.weight)

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: the authors' ``RefConv``."""
        return {} if source == "refconv" else None
