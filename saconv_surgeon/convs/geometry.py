"""Where a convolution, and the wide branch of a switchable one, read their input. Only numbers: imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor, nn

RATE = 3
"""The dilation of the wide branch divided by that of the narrow one."""
TAPS = 9
"""Of a 3×3 kernel, the only one that deformable branches have offsets for."""


def settings_of(conv: nn.Conv2d) -> dict[str, Any]:
    """The arguments that ``conv`` would be built with, except bias, device and dtype."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {name: getattr(conv, name) for name in names}


def pair(value: Any) -> tuple[Any, Any]:
    """``2`` → ``(2, 2)``; ``(2, 3)`` and ``[2, 3]`` → ``(2, 3)``."""
    return (value[0], value[-1]) if isinstance(value, (tuple, list)) else (value, value)


def kernel_span(conv: nn.Conv2d) -> tuple[int, int]:
    """The distance from the first to the last tap, d(k-1): (vertical, horizontal)."""
    vertical, horizontal = (d * (k - 1) for d, k in zip(pair(conv.dilation), conv.kernel_size, strict=True))
    return vertical, horizontal


class Centres(NamedTuple):
    """Which input pixels are at the centre of the outputs of a convolution.

    ``stride`` is the distance between two of them, ``offset`` that of the first one from the first input pixel, both as
    (vertical, horizontal). ``aligned`` says that pooling at every ``stride``-th pixel gives exactly one value for each output.
    """

    stride: tuple[int, int]
    offset: tuple[int, int]
    aligned: bool

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Centres:
        """From the arguments of ``conv``, as they are now."""
        left, right, top, bottom = narrow_padding(conv)
        span = kernel_span(conv)
        offset = (span[0] // 2 - top, span[1] // 2 - left)
        aligned = offset == (0, 0) and (top + bottom, left + right) == span
        return cls(pair(conv.stride), offset, aligned)


def narrow_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """The padding of ``conv``: (left, right, top, bottom)."""
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        return left, right, top, bottom
    vertical, horizontal = pair(conv.padding)
    return horizontal, horizontal, vertical, vertical


def wide_dilation(conv: nn.Conv2d) -> tuple[int, int]:
    """The dilation of the wide branch: (vertical, horizontal)."""
    vertical, horizontal = pair(conv.dilation)
    return RATE * vertical, RATE * horizontal


def wide_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """The padding of the wide branch, (left, right, top, bottom): p + d(k-1)(r-1)/2 on each side, r = 3."""
    left, right, top, bottom = narrow_padding(conv)
    vertical, horizontal = (reach * (RATE - 1) // 2 for reach in kernel_span(conv))
    return left + horizontal, right + horizontal, top + vertical, bottom + vertical


def offsets_line_up(conv: nn.Conv2d) -> bool:
    """Whether a 3×3 convolution with padding 1 and the stride of ``conv``, as offsets are, gives maps as large as ``conv``."""
    return narrow_padding(conv) == tuple(d for d in reversed(pair(conv.dilation)) for _ in range(2))


def smallest_map(conv: nn.Conv2d) -> tuple[int, int]:
    """The smallest (H, W) that the padding mode of the wide branch can pad."""
    return smallest_padded(wide_padding(conv), conv.padding_mode)


def smallest_padded(padding: tuple[int, int, int, int], mode: str) -> tuple[int, int]:
    """The smallest (H, W) that can be padded by (left, right, top, bottom)."""
    extra = {"reflect": 1, "circular": 0}.get(mode)
    if extra is None:
        return 1, 1
    left, right, top, bottom = padding
    return max(top, bottom, 1 - extra) + extra, max(left, right, 1 - extra) + extra


def check_size(smallest: tuple[int, int], x: Tensor, layer: nn.Module) -> None:
    """Checks that ``x`` is large enough for the padding mode of the layer's wide branch.

    Raises:
        ValueError: It is not.
    """
    height, width = smallest
    if x.shape[-2] >= height and x.shape[-1] >= width:
        return
    kind, path = type(layer).__name__, getattr(layer, "path", None)
    name = f"{kind} at {path!r}" if path else f"{kind}({layer.extra_repr()})"
    raise ValueError(
        f"{name}: a map of {x.shape[-2]}x{x.shape[-1]} is too small for padding_mode={layer.padding_mode!r} of its wide "
        f"branch, which needs at least {height}x{width}; use larger inputs or leave this convolution out of the conversion"
    )
