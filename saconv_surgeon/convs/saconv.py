"""``SAConv2d``: switchable atrous convolution.

Source: DetectoRS (Qiao, Chen, Yuille, CVPR 2021, arXiv 2006.02334), section 4, equation 4 and figure 5.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.gradients import as_dtype, blended, projected, shifted, spatial_mean

RATE = 3
"""How many times further apart the taps of the wide branch are."""
POOL = 5
"""Side of the window over which the switch averages."""


class SAConv2d(ConvAWS2d):
    r"""Blends a convolution with one of three times its dilation, by a switch computed at every output position.

    With w the standardised kernel of :class:`ConvAWS2d` and S the switch,

    .. math:: y = S \cdot conv(x; w, d) + (1 - S) \cdot conv(x; w + \Delta w, 3d)

    between two global contexts, ``x + A GAP(x) + a`` before and ``y + B GAP(y) + c`` after. S is unbounded: there is no
    sigmoid. A new layer has S = 1 and zero for A, a, B, c and Δw: it computes the plain convolution, to the bit.

    ``stride``, ``padding`` (``"same"`` and ``"valid"`` included), ``dilation``, ``groups`` and ``padding_mode`` mean
    what they mean in ``nn.Conv2d``; the wide branch is padded so that both stay aligned and of equal size. The bias is
    given to both branches, and S + (1 - S) = 1.

    Parameters besides those of ``nn.Conv2d``: ``weight_diff`` (the kernel's shape), ``switch`` (1×1, C_in → 1),
    ``pre_context`` (1×1, C_in → C_in), ``post_context`` (1×1, C_out → C_out).

    Args:
        *args: As for ``nn.Conv2d``.
        bn: A norm that is part of the block, applied to y.
        act: An activation that is part of the block, applied last.
        **kwargs: As for ``nn.Conv2d``.
    """

    weight_diff: Tensor
    bn: nn.Module | None
    act: nn.Module | None

    def __init__(self, *args: Any, bn: nn.Module | None = None, act: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.weight_diff = nn.Parameter(torch.empty_like(self.weight))
        with torch.random.fork_rng(devices=[]):  # their random initial values are thrown away
            self.switch = nn.Conv2d(self.in_channels, 1, 1, **where)
            self.pre_context = nn.Conv2d(self.in_channels, self.in_channels, 1, **where)
            self.post_context = nn.Conv2d(self.out_channels, self.out_channels, 1, **where)
        self.register_module("bn", bn)
        self.register_module("act", act)
        self._reset_new_parameters()

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out), sizes as in ``nn.Conv2d``; (C_in, H, W) without a batch too.

        Raises:
            ValueError: The map is too small for the wide branch's ``padding_mode``.
        """
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        y = self.blended(input)
        if self.bn is not None:
            y = self.bn(y)
        if self.act is not None:
            y = self.act(y)
        return y

    def blended(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out): y of the formula above, without the norm and activation of a block."""
        x = x + self.pre_context(spatial_mean(x))
        weight = self.standardised_weight()
        small, large = self._branches(
            x, as_dtype(weight, self.weight.dtype), as_dtype(weight + self.weight_diff, self.weight.dtype)
        )
        switch = self.switch_at(x, small)
        y = blended(small, large, as_dtype(switch, small.dtype))
        return shifted(y, self.post_context(spatial_mean(y)))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """See :class:`ConvAWS2d`; the norm of a block is unexpected where there is none: torch looks at names alone."""
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if strict:
            empty = tuple(f"{prefix}{name}." for name in ("bn", "act") if getattr(self, name, None) is None)
            unexpected_keys += [key for key in state_dict if key.startswith(empty) and key not in unexpected_keys]

    def is_at_rest(self) -> bool:
        """Whether y, before ``bn`` and ``act``, is still the plain convolution with the layer's own kernel, to the bit."""
        switch_bias = self.switch.bias
        zero = [self.weight_diff, self.switch.weight, *self.pre_context.parameters(), *self.post_context.parameters()]
        return (
            super().is_at_rest()
            and all(not bool(tensor.any()) for tensor in zero)
            and switch_bias is not None
            and bool((switch_bias == 1).all())
        )

    def to_conv2d(self) -> nn.Conv2d:
        """See :class:`ConvAWS2d`; a block with a norm or an activation of its own is more than a convolution."""
        if self.bn is not None or self.act is not None:
            raise ValueError(
                f"{type(self).__name__} has a norm or an activation of its own; no plain convolution equals it"
            )
        return super().to_conv2d()

    def reset_parameters(self) -> None:
        """Draws a new kernel as ``nn.Conv2d`` does; the layer then computes the plain convolution with it."""
        super().reset_parameters()
        if "weight_diff" in self._parameters:
            self._reset_new_parameters()

    def _reset_new_parameters(self) -> None:
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        for context in (self.switch, self.pre_context, self.post_context):
            nn.init.zeros_(context.weight)
            assert context.bias is not None
            nn.init.constant_(context.bias, 1.0 if context is self.switch else 0.0)

    def _branches(self, x: Tensor, weight: Tensor, wide_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The two convolutions that the switch chooses between."""
        return self._conv_forward(x, weight, self.bias), self._wide_forward(x, wide_weight)

    def _wide_forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution at three times the dilation, aligned with the narrow one."""
        dilation = tuple(RATE * d for d in _pair(self.dilation))
        if self.padding_mode == "zeros" and self.padding == "same":
            return F.conv2d(x, weight, self.bias, 1, "same", dilation, self.groups)
        left, right, top, bottom = wide_padding(self)
        padding: tuple[int, int] = (top, left)
        if self.padding_mode != "zeros":
            self._check_size(x)
            x = F.pad(x, (left, right, top, bottom), mode=self.padding_mode)
            padding = (0, 0)
        return F.conv2d(x, weight, self.bias, self.stride, padding, dilation, self.groups)

    def switch_at(self, x: Tensor, like: Tensor) -> Tensor:
        """S at the centre of every output, (N, 1, H_out, W_out) as ``like``, the output, has them; x is after the pre-context.

        The published order averages x over 5×5 and then projects C channels to one; both steps are linear and act on
        different axes, so projecting first gives the same S to rounding without two copies of x.
        """
        stride = _pair(self.stride)
        left, right, top, bottom = narrow_padding(self)
        span = [d * (k - 1) for d, k in zip(_pair(self.dilation), self.kernel_size, strict=True)]
        centre = [span[0] // 2 - top, span[1] // 2 - left]
        seen = pad_edges(projected(x, self.switch.weight), POOL // 2)
        if centre == [0, 0] and [top + bottom, left + right] == span:
            pooled = F.avg_pool2d(seen, POOL, stride)
        else:
            pooled = F.avg_pool2d(seen, POOL, 1)
            for axis, step, offset in zip((-2, -1), stride, centre, strict=True):
                last = _positions(x, axis)[-1]
                pooled = pooled.index_select(axis, (_positions(like, axis) * step + offset).clamp(min=0).minimum(last))
        bias = self.switch.bias
        assert bias is not None
        return pooled + bias.reshape(1, 1, 1, 1)

    def _check_size(self, x: Tensor) -> None:
        height, width = smallest_map(self)
        if x.shape[-2] >= height and x.shape[-1] >= width:
            return
        kind = type(self).__name__
        name = f"{kind} at {self.path!r}" if self.path else f"{kind}({self.extra_repr()})"
        raise ValueError(
            f"{name}: a map of {x.shape[-2]}x{x.shape[-1]} is too small for padding_mode={self.padding_mode!r} of its wide "
            f"branch, which needs at least {height}x{width}; use larger inputs or leave this convolution out of the conversion"
        )


def narrow_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """What ``conv`` pads with: (left, right, top, bottom)."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        return left, right, top, bottom
    vertical, horizontal = _pair(conv.padding)
    return horizontal, horizontal, vertical, vertical


def wide_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """What the branch at three times the dilation pads with: p + d(k-1)(r-1)/2 on each side, r = 3."""
    left, right, top, bottom = narrow_padding(conv)
    vertical, horizontal = (
        d * (k - 1) * (RATE - 1) // 2 for d, k in zip(_pair(conv.dilation), conv.kernel_size, strict=True)
    )
    return left + horizontal, right + horizontal, top + vertical, bottom + vertical


def smallest_map(conv: nn.Conv2d) -> tuple[int, int]:
    """The smallest (H, W) that the padding mode of the wide branch can pad."""
    extra = {"reflect": 1, "circular": 0}.get(conv.padding_mode)
    if extra is None:
        return 1, 1
    left, right, top, bottom = wide_padding(conv)
    return max(top, bottom, 1 - extra) + extra, max(left, right, 1 - extra) + extra


def pad_edges(x: Tensor, size: int) -> Tensor:
    """Reflects ``size`` pixels at every edge; repeats the edge along an axis that is too short to be reflected."""
    if _has_unknown_size(x):
        # Asking which of the two cases it is would bind the traced graph to one of them.
        for axis in (-2, -1):
            x = x.index_select(axis, _edge_indices(x, axis, size))
        return x
    modes = ["reflect" if side > size else "replicate" for side in x.shape[-2:]]
    if modes[0] == modes[1]:
        return F.pad(x, (size,) * 4, mode=modes[0])
    x = F.pad(x, (0, 0, size, size), mode=modes[0])
    return F.pad(x, (size, size, 0, 0), mode=modes[1])


def _edge_indices(x: Tensor, axis: int, size: int) -> Tensor:
    """Which position of an axis every position of the padded one repeats."""
    inside = _positions(x, axis)
    last = inside[-1]
    positions = F.pad(torch.ones_like(inside), (size, size), value=1).cumsum(0) - 1 - size
    reflected = last - (last - positions.abs()).abs()
    return torch.where(last >= size, reflected, positions.clamp(min=0).minimum(last))


def _positions(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 … along the last or last but one axis of ``x``.

    Counted rather than asked for where the size is not known yet: a size in the graph would become an argument of the layer.
    """
    if not _has_unknown_size(x):
        return torch.arange(x.shape[axis], device=x.device)
    line = x[0, 0, :, 0] if axis == -2 else x[0, 0, 0, :]
    return torch.ones_like(line, dtype=torch.int64).cumsum(0) - 1


def _has_unknown_size(x: Tensor) -> bool:
    """Whether ``x`` is being traced for maps of any size."""
    return any(isinstance(side, torch.SymInt) for side in x.shape[-2:])
