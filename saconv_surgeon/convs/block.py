"""``SAConvBlock``: convolution, norm and activation in one module, for models that are built from scratch."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.utils import _pair

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.convs.saconv_parts import Parts


class SAConvBlock(SAConv2d):
    """:class:`SAConv2d` with batch norm and SiLU, and the argument order of YOLO's ``Conv`` and of the seed article's block.

    (N, c1, H, W) → (N, c2, ⌈H/s⌉, ⌈W/s⌉) with the default padding. State-dict names are the seed's.

    Args:
        c1: C_in.
        c2: C_out.
        k: Kernel size.
        s: Stride.
        p: Padding; None keeps the size of the map (at stride 1).
        g: Groups.
        d: Dilation.
        act: True for SiLU, False or None for none, or the activation itself.
        bias: Whether there is a bias in addition to that of the norm. The published block has one that it never uses.
        parts: As for :class:`SAConv2d`.
        device: As for ``nn.Conv2d``.
        dtype: As for ``nn.Conv2d``.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int | tuple[int, int] = 1,
        s: int | tuple[int, int] = 1,
        p: int | tuple[int, int] | None = None,
        g: int = 1,
        d: int | tuple[int, int] = 1,
        act: bool | nn.Module | None = True,
        bias: bool = True,
        *,
        parts: Parts = "all",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        padding = p if p is not None else tuple(b * (a - 1) // 2 for a, b in zip(_pair(k), _pair(d), strict=True))
        activation = nn.SiLU() if act is True else act if isinstance(act, nn.Module) else nn.Identity()
        norm = nn.BatchNorm2d(c2, device=device, dtype=dtype)
        where = {"device": device, "dtype": dtype}
        super().__init__(c1, c2, k, s, padding, d, g, bias, bn=norm, act=activation, parts=parts, **where)

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, **options: Any) -> SAConv2d:  # type: ignore[override]
        """An :class:`SAConv2d`: a plain convolution has no norm and no activation."""
        return SAConv2d.from_conv2d(conv, **options)
