"""Linear branches beside a convolution: each is a convolution of the same window in inference, and merges into its kernel.

What they read is the window of the convolution beside them: padded as its input is, at its stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.geometry import narrow_padding, pair


@dataclass(frozen=True, eq=False)
class Merged:
    """A kernel (C_out, C_in/groups, H, W) and a bias (C_out,), both in float64."""

    kernel: Tensor
    bias: Tensor

    def through(self, norm: nn.Module) -> Merged:
        """Followed by a batch norm in eval mode.

        Raises:
            ValueError: ``norm`` is none, or takes the statistics of its batch.
        """
        affine = Affine.of(norm)
        if affine is None:
            raise ValueError(f"a {type(norm).__name__} is not a constant scale and shift in inference")
        return Merged(affine.kernel(self.kernel), affine.bias(self.bias))

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.kernel + other.kernel, self.bias + other.bias)


class Branch(nn.Module):
    """A branch of the convolution ``conv``, which it is given for each call and does not hold."""

    def forward(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """(N, C_in, H, W), the input of ``conv`` → (N, C_out, H_out, W_out)."""
        raise NotImplementedError

    def merged(self, conv: nn.Conv2d) -> Merged:
        """The kernel of the size of that of ``conv`` that computes the same in eval mode."""
        raise NotImplementedError

    @property
    def last(self) -> nn.Module:
        """The norm whose scale and shift are zero while the branch adds nothing."""
        raise NotImplementedError

    def is_silent(self) -> bool:
        """Whether the branch adds nothing, for whatever input; its norm may have been exchanged for a frozen one."""
        found = Affine.of(self.last)
        return found is not None and not bool(found.scale.any()) and not bool(found.shift.any())

    def silence(self, generator: torch.Generator | None) -> None:
        """Draws the kernels and makes the branch add nothing, in place; training then scales it up."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                draw(module.weight, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for parameter in self.last.parameters(recurse=False):
            nn.init.zeros_(parameter)


def draw(weight: Tensor, generator: torch.Generator | None) -> None:
    """As ``nn.Conv2d`` draws its kernel, in place: uniform up to 1/sqrt(fan-in)."""
    if weight.is_meta:
        return
    bound = weight[0].numel() ** -0.5
    values = torch.empty(weight.shape).uniform_(-bound, bound, generator=generator)
    with torch.no_grad():
        weight.copy_(values)


class SmallKernel(Branch):
    """A smaller kernel at the centre of the window, and a norm: RepVGG's and DBB's 1×1, ACNet's 1×k and k×1, and the dilated
    kernels of UniRepLKNet.

    Args:
        conv: The convolution beside it.
        size: (H, W) of the kernel; as far from the window's edges on both sides.
        dilation: Of its taps; that of ``conv`` if None.
        **where: Device and dtype.
    """

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int], dilation: int | None = None, **where: Any) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, size, groups=conv.groups, bias=False, **where)
        self.bn = nn.BatchNorm2d(conv.out_channels, **where)

    @property
    def last(self) -> nn.Module:
        """See :class:`Branch`."""
        return self.bn

    def forward(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """See :class:`Branch`."""
        x = window(x, conv, self._margin(conv))
        y = F.conv2d(x, self.conv.weight, None, pair(conv.stride), 0, self._dilation(conv), conv.groups)
        normed: Tensor = self.bn(y)
        return normed

    def merged(self, conv: nn.Conv2d) -> Merged:
        """See :class:`Branch`."""
        kernel = self.conv.weight.detach().double()
        whole = kernel.new_zeros(*kernel.shape[:2], *conv.kernel_size)
        rows, columns = (
            slice(margin // d, k - margin // d, step // d)
            for margin, d, k, step in zip(
                self._margin(conv), pair(conv.dilation), conv.kernel_size, self._dilation(conv), strict=True
            )
        )
        whole[:, :, rows, columns] = kernel
        return Merged(whole, kernel.new_zeros(kernel.shape[0])).through(self.last)

    def _dilation(self, conv: nn.Conv2d) -> tuple[int, int]:
        vertical, horizontal = pair(conv.dilation if self.dilation is None else self.dilation)
        return vertical, horizontal

    def _margin(self, conv: nn.Conv2d) -> tuple[int, int]:
        """Pixels between the edges of the window and the outermost taps: (vertical, horizontal)."""
        spans = (d * (k - 1) for d, k in zip(pair(conv.dilation), conv.kernel_size, strict=True))
        own = (d * (k - 1) for d, k in zip(self._dilation(conv), self.conv.kernel_size, strict=True))
        vertical, horizontal = ((span - small) // 2 for span, small in zip(spans, own, strict=True))
        return vertical, horizontal


class Identity(Branch):
    """A norm on the pixel at the centre of the window: RepVGG's identity. Needs as many outputs as inputs, at stride 1.

    Its parameters are those of the norm itself.
    """

    def __init__(self, channels: int, **where: Any) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, **where)

    @property
    def last(self) -> nn.Module:
        """See :class:`Branch`."""
        return self.norm

    def forward(self, x: Tensor, conv: nn.Conv2d) -> Tensor:
        """See :class:`Branch`."""
        vertical, horizontal = (d * (k - 1) // 2 for d, k in zip(pair(conv.dilation), conv.kernel_size, strict=True))
        normed: Tensor = self.norm(window(x, conv, (vertical, horizontal)))
        return normed

    def merged(self, conv: nn.Conv2d) -> Merged:
        """See :class:`Branch`."""
        kernel = torch.zeros(conv.weight.shape, dtype=torch.float64, device=conv.weight.device)
        channel = torch.arange(conv.out_channels)
        row, column = (k // 2 for k in conv.kernel_size)
        kernel[channel, channel % kernel.shape[1], row, column] = 1.0
        return Merged(kernel, kernel.new_zeros(conv.out_channels)).through(self.norm)


def window(x: Tensor, conv: nn.Conv2d, margin: Sequence[int]) -> Tensor:
    """The input of ``conv``, padded as it pads it, without ``margin`` (vertical, horizontal) pixels on each side."""
    left, right, top, bottom = narrow_padding(conv)
    vertical, horizontal = margin
    amounts = (left - horizontal, right - horizontal, top - vertical, bottom - vertical)
    if conv.padding_mode == "zeros":
        return F.pad(x, amounts) if any(amounts) else x
    padded = F.pad(x, (left, right, top, bottom), mode=conv.padding_mode)
    return F.pad(padded, (-horizontal, -horizontal, -vertical, -vertical)) if any(margin) else padded


def padded_with_shift(y: Tensor, norm: nn.Module, conv: nn.Conv2d) -> Tensor:
    """``norm(y)``, padded by what the norm makes of zero, so that it is what it would be of a padded input (DBB, section 3.2)."""
    normed: Tensor = norm(y)
    left, right, top, bottom = narrow_padding(conv)
    if not (left or right or top or bottom):
        return normed
    if conv.padding_mode != "zeros":
        return F.pad(normed, (left, right, top, bottom), mode=conv.padding_mode)
    value = _of_zero(norm)
    if value is None:
        return F.pad(normed, (left, right, top, bottom))
    outside = 1 - F.pad(normed.new_ones(1, 1, *normed.shape[-2:]), (left, right, top, bottom))
    return F.pad(normed, (left, right, top, bottom)) + outside * value.to(normed.dtype).reshape(-1, 1, 1)


def _of_zero(norm: nn.Module) -> Tensor | None:
    """What a batch norm of any class makes of zero by its running statistics, (C,); None if it has none."""
    state = {**norm._parameters, **norm._buffers}
    mean, variance = state.get("running_mean"), state.get("running_var")
    if mean is None or variance is None:
        return None
    # copies: the next call moves the statistics, and the gradient of this one needs them as they are
    scale = torch.rsqrt(variance.clone() + norm.eps)  # type: ignore[operator]
    weight, bias = state.get("weight"), state.get("bias")
    scale = scale if weight is None else scale * weight
    return -mean.clone() * scale if bias is None else bias - mean.clone() * scale
