"""``SPConv2d``: a convolution split into a k×k part for some channels and a 1×1 part for all.

Source: Zhang et al., "Split to Be Slim: An Overlooked Redundancy in Vanilla Convolution", IJCAI 2020, arXiv 2006.12085,
section 3.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from saconv_surgeon.convs.affine import Affine, remainder
from saconv_surgeon.convs.converted import as_one_node
from saconv_surgeon.convs.geometry import pair, settings_of
from saconv_surgeon.convs.gradients import spatial_mean
from saconv_surgeon.convs.guarded_layers import WithoutWeight
from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.convs.spconv_calibration import fit
from saconv_surgeon.convs.spconv_geometry import first_window, halves, pools_exactly, representative_channels
from saconv_surgeon.convs.spconv_projection import project

DEFAULT_RATIO = Fraction(1, 2)


class SPConv2d(WithoutWeight):
    r"""A k×k convolution of some of the channels and 1×1 convolutions of all, in two branches that are blended.

    The first ⌊αC_in⌋ channels are *representative*: u = BN₁(gwc(x) + pwc(x)), a k×k convolution in two groups and a 1×1
    convolution, both without bias. The others are *uncertain*: v = BN₂(conv1x1(x)), with bias. Both have all output channels, and

    .. math:: y = \beta u + (1 - \beta) v, \quad (\beta, 1 - \beta) = softmax(GAP(u), GAP(v))

    for each image and channel. With stride s, the 1×1 convolutions take the mean of the s×s pixels around each output, without
    those outside the map; for s = 2 on even maps that is the published 2×2 pool. It does not compute the convolution that it
    replaces. State-dict names are the published ones (``gwc``, ``pwc``, ``conv1x1``, ``bn1``, ``bn2``); if the channels cannot
    be halved, the groups are two convolutions, ``gwc.0`` and ``gwc.1``.

    Args:
        in_channels: C_in; ⌊αC_in⌋ must be at least 2, and less than C_in.
        out_channels: C_out, at least 2.
        kernel_size: As for ``nn.Conv2d``, and not 1×1.
        stride: As for ``nn.Conv2d``.
        padding: As for ``nn.Conv2d``.
        dilation: As for ``nn.Conv2d``.
        groups: 1.
        bias: For the argument order of ``nn.Conv2d``: there always is one.
        padding_mode: As for ``nn.Conv2d``.
        ratio: α, between 0 and 1.
        device: As for ``nn.Conv2d``.
        dtype: As for ``nn.Conv2d``.

    Raises:
        ValueError: Arguments that the definition does not cover.
    """

    gwc: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Any = "zeros",
        *,
        ratio: Fraction | float | str = DEFAULT_RATIO,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.ratio = Fraction(ratio).limit_denominator(10**6)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.representative = representative_channels(in_channels, self.ratio)
        if not 2 <= self.representative < in_channels or out_channels < 2 or groups != 1:
            raise ValueError(
                f"{type(self).__name__} needs two representative channels, an uncertain one, two output channels and one group; "
                f"got {in_channels} → {out_channels} channels at ratio {self.ratio}, {groups} groups"
            )
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        settings = (kernel_size, stride, padding, dilation)
        self.gwc: nn.Conv2d | TwoGroups
        if self.representative % 2 == out_channels % 2 == 0:
            self.gwc = nn.Conv2d(
                self.representative, out_channels, *settings, 2, bias=False, padding_mode=padding_mode, **where
            )
        else:
            self.gwc = TwoGroups(self.representative, out_channels, *settings, padding_mode=padding_mode, **where)
        self.pwc = nn.Conv2d(self.representative, out_channels, 1, bias=False, **where)
        self.conv1x1 = nn.Conv2d(in_channels - self.representative, out_channels, 1, **where)
        self.bn1 = nn.BatchNorm2d(out_channels, **where)
        self.bn2 = nn.BatchNorm2d(out_channels, **where)
        conv = self.spatial[0]
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, pair(conv.stride), pair(conv.dilation)
        self.padding, self.padding_mode = conv.padding, padding_mode
        guard(self)

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """A layer that is near to ``conv`` (``init="project"``, see :func:`~saconv_surgeon.convs.spconv_projection.project`), or
        one with random weights (``init="random"``).

        ``conv`` is left unchanged and shares no tensor. Settings, dtype, device, memory format, training flag and
        ``requires_grad`` are carried over.
        """
        init = options.pop("init", "project")
        with nullcontext() if init == "random" else torch.random.fork_rng(devices=[]):
            layer = cls(**settings_of(conv), device=conv.weight.device, dtype=conv.weight.dtype, **options)
        for part in layer.spatial:
            part._reversed_padding_repeated_twice = list(conv._reversed_padding_repeated_twice)
        for name, value in vars(conv).items():  # attributes that other code has put on the object
            if name not in vars(layer) and name not in vars(layer.pwc):
                setattr(layer, name, value)
        if init != "random":
            project(layer, conv)
        if not conv.weight.is_contiguous() and conv.weight.is_contiguous(memory_format=torch.channels_last):
            layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return layer.requires_grad_(conv.weight.requires_grad).train(conv.training)

    @property
    def spatial(self) -> list[nn.Conv2d]:
        """The k×k convolutions: one in two groups, or one for each group."""
        return [self.gwc] if isinstance(self.gwc, nn.Conv2d) else list(self.gwc.children())  # type: ignore[arg-type]

    def options(self) -> dict[str, str]:
        """See :class:`ConvertedLayer`."""
        return {"ratio": str(self.ratio)}

    def fit(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """See :func:`~saconv_surgeon.convs.spconv_calibration.fit`."""
        fit(self, inputs, outputs)

    def is_new(self, name: str) -> bool:
        """See :class:`ConvertedLayer`: every parameter is new."""
        return True

    def folded(self, then: Affine | None = None, *, own_norm: bool = True) -> nn.Module:
        """See :class:`ConvertedLayer`: a copy whose norms are folded into its convolutions. A norm that follows cannot be folded,
        since the gate depends on the outputs before it.
        """
        layer = copy.deepcopy(self).requires_grad_(False)
        first, second = Affine.of(layer.bn1), Affine.of(layer.bn2)
        if first is not None:
            layer.bn1 = remainder(layer.bn1)  # type: ignore[assignment]
            start = 0
            for conv in layer.spatial:  # their output channels side by side
                first.part(start, start + conv.out_channels).into(conv, shift=False)
                start += conv.out_channels
            first.into(layer.pwc)
        if second is not None:
            layer.bn2 = remainder(layer.bn2)  # type: ignore[assignment]
            second.into(layer.conv1x1)
        return layer

    @property
    def is_folded(self) -> bool:
        """See :class:`ConvertedLayer`."""
        return Affine.of(self.bn1) is None and Affine.of(self.bn2) is None

    def forward(self, input: Tensor | fx.Proxy) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out), sizes as in ``nn.Conv2d``; (C_in, H, W) without a batch too.

        Raises:
            ValueError: Some outputs at the edge have a pooling window without pixels.
        """
        if isinstance(input, fx.Proxy):
            return as_one_node(self, input)
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        r = self.representative
        spatial = self.gwc(input[:, :r])
        pooled = self.pooled(input, spatial)
        u = self.bn1(spatial + self.pwc(pooled[:, :r]))
        v = self.bn2(self.conv1x1(pooled[:, r:]))
        # the softmax over two is the sigmoid of their difference
        gate = torch.sigmoid(spatial_mean(u) - spatial_mean(v))
        return torch.lerp(v, u, gate)

    def pooled(self, x: Tensor, like: Tensor) -> Tensor:
        """The input of the 1×1 convolutions, made of ``x``: (N, C, H_out, W_out), as large as ``like``."""
        conv = self.spatial[0]
        exact = pools_exactly(conv)
        if exact and self.stride == (1, 1):
            return x
        begin = first_window(conv)
        if any(start < -(s // 2) for start, s in zip(begin, self.stride, strict=True)):
            raise ValueError(self._outside(like))
        x = x[..., max(begin[0], 0) :, max(begin[1], 0) :]
        if self.stride != (1, 1):
            outside = (max(-begin[0], 0), max(-begin[1], 0))
            x = F.avg_pool2d(x, self.stride, self.stride, outside, ceil_mode=True, count_include_pad=False)
        if exact:
            return x
        height, width = like.shape[-2:]
        if x.shape[-2] < height or x.shape[-1] < width:
            raise ValueError(self._outside(like))
        return x[..., :height, :width]

    def _outside(self, like: Tensor) -> str:
        name = f"{type(self).__name__}{f' at {self.path!r}' if self.path else ''}"
        return (
            f"{name}: outputs at the edge of a {like.shape[-2]}x{like.shape[-1]} map have no pixel beneath them; "
            "use larger inputs or leave this convolution out of the conversion"
        )

    def extra_repr(self) -> str:
        """As for ``nn.Conv2d``, with the ratio."""
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        shown += [f"padding={self.padding}"] if self.padding not in (0, (0, 0)) else []
        shown += [f"dilation={self.dilation}"] if self.dilation != (1, 1) else []
        shown += [f"padding_mode={self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join([*shown, f"ratio={self.ratio}"])


class TwoGroups(nn.Sequential):
    """A convolution in two groups of unequal sizes: (N, C, H, W) → (N, C_out, H_out, W_out); arguments as for ``nn.Conv2d``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        **rest: Any,
    ) -> None:
        settings = (kernel_size, stride, padding, dilation)
        pairs = zip(halves(in_channels), halves(out_channels), strict=True)
        super().__init__(*(nn.Conv2d(c_in, c_out, *settings, bias=False, **rest) for c_in, c_out in pairs))
        self.sizes = halves(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """See ``nn.Conv2d``."""
        return torch.cat([conv(part) for conv, part in zip(self, x.split(self.sizes, 1), strict=True)], 1)
