"""``DilatedReparamConv2d``: a large depthwise kernel with small dilated ones. Source: UniRepLKNet (Ding et al., CVPR 2024,
arXiv 2311.15599)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.branches import Branch, SmallKernel
from saconv_surgeon.convs.dilated_branches import BRANCHES
from saconv_surgeon.convs.geometry import narrow_padding, settings_of
from saconv_surgeon.convs.mergeable import MergeableConv2d


class DilatedReparamConv2d(MergeableConv2d):
    """``act(bn(conv_KxK(x)) + Σ bn_i(conv_i(x)))``: depthwise, the k×k kernel widened to K×K by zeros, the others dilated.

    A new layer equals its convolution up to rounding, since a larger window is summed in another order.

    Args:
        *args: As for ``nn.Conv2d``, for the large kernel.
        small: (H, W) of the kernel that was widened; what is outside of it is zero at rest.
        **kwargs: As for :class:`MergeableConv2d`.
    """

    _own_attributes = (*MergeableConv2d._own_attributes, "small")

    def __init__(self, *args: Any, small: tuple[int, int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.small = self.kernel_size if small is None else small

    @classmethod
    def _around(cls, conv: nn.Conv2d, state: Mapping[str, Tensor], **options: Any) -> Self:
        kernel: int = options.pop("kernel")
        wide = nn.Conv2d(**{**settings_of(conv), "kernel_size": kernel}, bias=conv.bias is not None, device="meta")
        for name, value in vars(conv).items():
            if name not in ("kernel_size", "padding", "_reversed_padding_repeated_twice", "_parameters"):
                vars(wide)[name] = value
        vertical, horizontal = ((kernel - k) // 2 for k in conv.kernel_size)
        left, right, top, bottom = narrow_padding(conv)
        wide.padding = conv.padding if conv.padding == "same" else (top + vertical, left + horizontal)
        wide._reversed_padding_repeated_twice = [
            left + horizontal,
            right + horizontal,
            top + vertical,
            bottom + vertical,
        ]
        widened = F.pad(state["weight"], (horizontal, horizontal, vertical, vertical))
        wide._parameters = {
            name: None if p is None else nn.Parameter(widened if name == "weight" else p.detach(), p.requires_grad)
            for name, p in conv._parameters.items()
        }
        layer = super()._around(wide, {**state, "weight": widened}, **options)
        layer.small = conv.kernel_size
        return layer

    def options(self) -> dict[str, str]:
        """See :class:`ConvertedLayer`."""
        return {"kernel": str(self.kernel_size[0])}

    def make_branches(self, where: Mapping[str, Any]) -> dict[str, Branch]:
        """See :class:`MergeableConv2d`."""
        known = BRANCHES[self.kernel_size[0]]
        return {f"k{k}_{r}": SmallKernel(self, (k, k), r, **where) for k, r in known}

    def is_at_rest(self) -> bool:
        """See :class:`MergeableConv2d`; up to rounding."""
        if not super().is_at_rest():
            return False
        outside = self.weight.detach().clone()
        outside[(..., *self._inside())] = 0
        return not bool(outside.any())

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: the authors' ``DilatedReparamBlock``."""
        if source != "unireplknet":
            return None
        large = {"weight": "lk_origin.weight", "bn.": "origin_bn."}
        small = {f"{name}.{part}.": f"dil_{part}_{name}." for name, _ in self.branches() for part in ("conv", "bn")}
        return large | small

    def plain(self, kernel: Tensor, bias: Tensor | None) -> nn.Conv2d:
        """See :class:`ConvertedConv2d`; also for a kernel of the size of the convolution that was widened."""
        conv = super().plain(kernel, bias)
        vertical, horizontal = ((large - k) // 2 for large, k in zip(self.kernel_size, kernel.shape[2:], strict=True))
        left, right, top, bottom = narrow_padding(self)
        conv.kernel_size = tuple(kernel.shape[2:])
        conv.padding = self.padding if self.padding == "same" else (top - vertical, left - horizontal)
        conv._reversed_padding_repeated_twice = [
            left - horizontal,
            right - horizontal,
            top - vertical,
            bottom - vertical,
        ]
        return conv

    def to_conv2d(self) -> nn.Conv2d:
        """See :class:`MergeableConv2d`: the convolution that was widened, to the bit."""
        conv = super().to_conv2d()
        kernel = self.weight.detach()[(..., *self._inside())].clone()
        small = self.plain(kernel, None if conv.bias is None else conv.bias.detach())
        for name, parameter in small.named_parameters():
            parameter.requires_grad_(conv.get_parameter(name).requires_grad)
        return small

    def _needed(self, kernel: Tensor) -> Tensor:
        """See :class:`MergeableConv2d`: without what is outside of the kernel that was widened, while that is zero."""
        outside = kernel.clone()
        outside[(..., *self._inside())] = 0
        return kernel if bool(outside.any()) else kernel[(..., *self._inside())]

    def _inside(self) -> tuple[slice, slice]:
        rows, columns = (
            slice((large - k) // 2, (large - k) // 2 + k) for large, k in zip(self.kernel_size, self.small, strict=True)
        )
        return rows, columns
