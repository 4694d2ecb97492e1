"""``ModulatedDeformConv2d``: a convolution that samples where, and as much as, it has learnt.

Source: Deformable ConvNets v2 (Zhu et al., CVPR 2019, arXiv 1811.11168), section 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.converted_conv import ConvertedConv2d
from saconv_surgeon.convs.geometry import narrow_padding, pair
from saconv_surgeon.convs.gradients import as_convolved, as_dtype, finite_or
from saconv_surgeon.convs.kernel_guard import guard


class ModulatedDeformConv2d(ConvertedConv2d):
    """``Σ w_k · m_k · x(p + p_k + Δp_k)``: a convolution of the same window predicts offsets Δp and masks m at each output.

    ``conv_offset`` (C_in → 3·k·k) gives y and x of each tap, then the logits of the masks, as published layers have them. It
    starts at zero: no offset, and masks of ½. ``weight`` is twice the kernel of the convolution, so that a new layer
    computes what that computes, up to rounding.
    """

    keeps_kernel = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        size = (self.kernel_size[0], self.kernel_size[1])
        with torch.random.fork_rng(devices=[]):  # their random initial values are thrown away
            self.conv_offset = nn.Conv2d(self.in_channels, 3 * size[0] * size[1], size, **where)
        guard(self)
        self._reset_new_parameters()

    def computed(self, x: Tensor) -> Tensor:
        """See :class:`ConvertedConv2d`."""
        return self._sampled(x, *self.offsets_and_masks(x))

    def contributions(self, x: Tensor) -> dict[str, Tensor]:
        """See :class:`ConvertedLayer`: the plain convolution, and what moving and weighing its samples changes."""
        plain = self._conv_forward(x, self.weight / 2, self.bias)
        return {"conv": plain, "conv_offset": self.computed(x) - plain}

    def offsets_and_masks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (N, 2·k·k, H_out, W_out), y and x of each tap in turn, in pixels; masks (N, k·k, H_out, W_out)."""
        conv = self.conv_offset
        padded = self._padded(x)
        found = F.conv2d(padded, conv.weight, conv.bias, pair(self.stride), 0, pair(self.dilation))
        taps = conv.out_channels // 3
        return finite_or(found[:, : 2 * taps], 0.0), finite_or(found[:, 2 * taps :].sigmoid(), 0.5)

    def _padded(self, x: Tensor) -> Tensor:
        amounts = narrow_padding(self)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, amounts, mode=mode) if any(amounts) else x

    def _sampled(self, x: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d  # takes a second to import, and is optional

        # under autocast the offsets are in half precision, and the operator takes one dtype only
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        bias = None if self.bias is None else as_dtype(self.bias, dtype)
        left, right, top, bottom = narrow_padding(self)
        padding = (top, left)
        if self.padding_mode != "zeros" or (left, top) != (right, bottom):
            x, padding = self._padded(x), (0, 0)
        x, offsets, masks, weight = (as_dtype(t, dtype) for t in (x, offsets, masks, self.weight))
        y: Tensor = deform_conv2d(x, offsets, weight, bias, pair(self.stride), padding, pair(self.dilation), masks)
        return as_convolved(y, self.weight)

    def silenced(self) -> Self:
        """See :class:`ConvertedLayer`: no sample is moved or weighed."""
        copied = copy.deepcopy(self)
        copied._reset_new_parameters()
        return copied

    def is_at_rest(self) -> bool:
        """Whether no sample is moved or weighed otherwise; the layer then is the plain convolution up to rounding."""
        if any(tensor.is_meta for tensor in self.parameters()):
            return False
        return not any(bool(p.any()) for p in self.conv_offset.parameters())

    def computes_its_weight(self) -> bool:
        """See :class:`ConvertedLayer`: never, since the weight is twice the kernel."""
        return False

    def to_conv2d(self) -> nn.Conv2d:
        """See :class:`ConvertedConv2d`; with half the weight, which is the kernel that the convolution had, to the bit."""
        conv = super().to_conv2d()
        with torch.no_grad():
            conv.weight.div_(2)
        return conv

    def rest_with_weight(self) -> None:
        """See :class:`~saconv_surgeon.convs.guarded_layers.GuardedLayer`: a new weight is a kernel, which is doubled."""
        with torch.no_grad():
            nn.Module.get_parameter(self, "weight").mul_(2)

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: MMCV's ``ModulatedDeformConv2dPack`` (``DCNv2``)."""
        return {} if source == "dcnv2" else None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        """Also loads the state of a plain convolution, whose kernel is doubled."""
        kernel, is_plain = state_dict.get(f"{prefix}weight"), f"{prefix}conv_offset.weight" not in state_dict
        if kernel is not None and is_plain:
            state_dict = {**state_dict, f"{prefix}weight": 2 * kernel}
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def _reset_new_parameters(self) -> None:
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)
