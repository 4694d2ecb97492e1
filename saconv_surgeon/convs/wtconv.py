"""``WTConv2d``: a depthwise convolution with convolutions of wavelet bands. Source: WTConv (Finder et al., ECCV 2024,
arXiv 2407.05848), section 3."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.branches import draw, window
from saconv_surgeon.convs.converted_conv import ConvertedConv2d
from saconv_surgeon.convs.geometry import kernel_span, pair
from saconv_surgeon.convs.gradients import can_look_at, is_finite
from saconv_surgeon.convs.kernel_guard import guard

BANDS = 4
"""Of one level: low and high frequencies in both directions."""


class Scale(nn.Module):
    """A factor for each channel, (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, channels: int, **where: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, channels, 1, 1, **where))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x * self.weight


class WTConv2d(ConvertedConv2d):
    r"""``base_scale · conv(x) + the sum of convolved bands of x``: depthwise, with a reach that doubles with each level.

    x is split into four bands of half the size by the Haar wavelet. Each is convolved by a kernel of its own and scaled, and
    the band of low frequencies is split again, ``levels`` times. The inverse transform puts them together, and what it gives is
    read at the centre of each output's window. Scales of bands start at zero: a new layer computes the plain convolution, to
    the bit.

    Args:
        *args: As for ``nn.Conv2d``, with as many groups as inputs and outputs.
        levels: How often the low band is split.
        **kwargs: As for ``nn.Conv2d``.
    """

    _own_attributes = (*ConvertedConv2d._own_attributes, "levels")
    wt_filter: Tensor
    iwt_filter: Tensor

    def __init__(self, *args: Any, levels: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.levels = levels
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        bands = BANDS * self.in_channels
        size = (self.kernel_size[0], self.kernel_size[1])
        with torch.random.fork_rng(devices=[]):  # their random initial values are thrown away
            convs = [
                nn.Conv2d(bands, bands, size, padding="same", groups=bands, bias=False, **where) for _ in range(levels)
            ]
        self.base_scale = Scale(self.in_channels, **where)
        self.wavelet_convs = nn.ModuleList(convs)
        self.wavelet_scale = nn.ModuleList(Scale(bands, **where) for _ in range(levels))
        for name in ("wt_filter", "iwt_filter"):
            self.register_buffer(name, torch.empty(bands, 1, 2, 2, **where))
        guard(self)
        self._reset_new_parameters()

    def options(self) -> dict[str, str]:
        """See :class:`ConvertedLayer`."""
        return {"levels": str(self.levels)}

    def computed(self, x: Tensor) -> Tensor:
        """See :class:`ConvertedConv2d`."""
        parts = self.contributions(x)
        y = parts["conv"] + parts["wavelets"]
        if can_look_at(x) and not is_finite(y) and not any(bool(p.any()) for p in self.wavelet_scale.parameters()):
            return parts["conv"]  # nothing times infinity is no number
        return y

    def contributions(self, x: Tensor) -> dict[str, Tensor]:
        """See :class:`ConvertedLayer`: the scaled convolution, and what the bands add."""
        y = self._conv_forward(x, self.weight, self.bias)
        base: Tensor = self.base_scale(y)
        vertical, horizontal = (span // 2 for span in kernel_span(self))
        seen = window(self._bands(x), self, (vertical, horizontal))
        down, right = pair(self.stride)
        return {"conv": base, "wavelets": seen[..., ::down, ::right]}

    def _bands(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W): the bands of all levels, convolved, scaled and put together."""
        low, sizes, found = x, [], []
        for conv, scale in zip(self.wavelet_convs, self.wavelet_scale, strict=True):
            sizes.append((low.shape[-2], low.shape[-1]))
            # one row and column more, which a step of two leaves out of even maps: exporters see one way for all sizes
            split = F.conv2d(F.pad(low, (0, 1, 0, 1)), self.wt_filter, stride=2, groups=self.in_channels)
            low = split[:, ::BANDS]
            found.append(scale(conv(split)))
        joined: Tensor | None = None
        for (height, width), bands in zip(reversed(sizes), reversed(found), strict=True):
            if joined is not None:
                by_channel = bands.unflatten(1, (-1, BANDS))
                lowest = by_channel[:, :, :1] + joined.unsqueeze(2)
                bands = torch.cat([lowest, by_channel[:, :, 1:]], 2).flatten(1, 2)
            whole = F.conv_transpose2d(bands, self.iwt_filter, stride=2, groups=self.in_channels)
            joined = _cropped(whole, height, width)
        assert joined is not None
        return joined

    def silenced(self) -> Self:
        """See :class:`ConvertedLayer`: without the bands, the scale in the kernel."""
        copied = copy.deepcopy(self)
        with torch.no_grad():
            factor = copied.base_scale.weight.flatten()
            copied.get_parameter("weight").mul_(factor.reshape(-1, 1, 1, 1))
            if copied.bias is not None:
                copied.bias.mul_(factor)
            nn.init.ones_(copied.base_scale.weight)
            for parameter in copied.wavelet_scale.parameters():
                nn.init.zeros_(parameter)
        return copied

    def is_at_rest(self) -> bool:
        """Whether the layer still computes the plain convolution with its kernel, to the bit."""
        if any(tensor.is_meta for tensor in (*self.parameters(), *self.buffers())):
            return False
        silent = not any(bool(p.any()) for p in self.wavelet_scale.parameters())
        return silent and bool((self.base_scale.weight == 1).all())

    def rest_with_weight(self) -> None:
        """See :class:`~saconv_surgeon.convs.guarded_layers.GuardedLayer`: a layer at rest uses its kernel, whatever it is."""

    def published_names(self, source: str) -> Mapping[str, str] | None:
        """See :class:`ConvertedLayer`: the authors' ``WTConv2d``."""
        return {"weight": "base_conv.weight", "bias": "base_conv.bias"} if source == "wtconv" else None

    def reset_parameters(self) -> None:
        """Draws a new kernel as ``nn.Conv2d`` does; the layer then computes the plain convolution with it."""
        if not self.weight.is_meta:
            super().reset_parameters()
        if "wt_filter" in self._buffers:  # nn.Conv2d's constructor calls this before there are bands
            self._reset_new_parameters()

    def _reset_new_parameters(self) -> None:
        generator = self.generator_of_kernel()
        nn.init.ones_(self.base_scale.weight)
        for conv, scale in zip(self.wavelet_convs, self.wavelet_scale, strict=True):
            draw(conv.get_parameter("weight"), generator)
            nn.init.zeros_(scale.get_parameter("weight"))
        for name in ("wt_filter", "iwt_filter"):
            haar = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 2
            buffer = self.get_buffer(name)
            if not buffer.is_meta:
                buffer.copy_(haar.unsqueeze(1).repeat(self.in_channels, 1, 1, 1))


def _cropped(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns. For exporters by indices: of a slice they ask if it is shorter, which fixes odd or even."""
    if not torch.compiler.is_compiling():
        return x[..., :height, :width]
    rows, columns = (torch.arange(size, device=x.device) for size in (height, width))
    return x.index_select(-2, rows).index_select(-1, columns)
