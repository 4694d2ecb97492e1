"""``DeformableSAConv2d``: switchable atrous convolution whose two branches are deformable.

Source: DetectoRS (arXiv 2006.02334), section 4.3, and the ``use_deform=True`` form of the published layers; deformable
convolution: Dai et al., arXiv 1703.06211.
"""

from __future__ import annotations

import copy
import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.convs.geometry import RATE, TAPS, check_size, offsets_line_up, pair, settings_of, smallest_map
from saconv_surgeon.convs.gradients import as_convolved, as_dtype, finite_or
from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.convs.switch import averaged


@cache
def missing_operator() -> str | None:
    """Why torchvision's operator cannot be called; None if it can. It can be missing although torchvision imports."""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a build for another torch can raise anything
        return f"torchvision cannot be imported ({type(error).__name__})"
    try:
        torch.ops.torchvision.deform_conv2d.default  # noqa: B018
    except AttributeError:
        return "this torchvision has no compiled deform_conv2d"
    return None


class DeformableSAConv2d(SAConv2d):
    """:class:`SAConv2d` whose samples are moved by offsets, which the layer predicts at every output position.

    ``offset_s`` and ``offset_l`` (3×3, C_in → 18, with the layer's stride) take the input after the pre-context, averaged over
    5×5, and give y and x of the nine samples of the narrow and of the wide branch. They are initialized to zero, so a new layer
    computes the plain convolution up to rounding: ``torchvision.ops.deform_conv2d`` adds in another order than a convolution.

    For 3×3 kernels whose padding is their dilation. State-dict names are those of MMCV's ``SAC`` with ``use_deform=True``.
    """

    offset_s: nn.Conv2d
    offset_l: nn.Conv2d

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.parts != "all":
            raise ValueError(f"{type(self).__name__} has all parts, not {self.parts!r} alone")
        if self.kernel_size != (3, 3) or not offsets_line_up(self):
            raise ValueError(
                f"{type(self).__name__} is for 3×3 kernels whose padding is their dilation, not {self.extra_repr()}"
            )
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        with torch.random.fork_rng(devices=[]):  # their random initial values are thrown away
            for name in ("offset_s", "offset_l"):
                setattr(self, name, nn.Conv2d(self.in_channels, 2 * TAPS, 3, self.stride, 1, **where))  # type: ignore[arg-type]
        self._reset_offsets()

    def is_at_rest(self) -> bool:
        """See :class:`SAConv2d`; here only up to rounding."""
        return super().is_at_rest() and not (_any(self.offset_s) or _any(self.offset_l))

    def _reset_new_parameters(self) -> None:
        super()._reset_new_parameters()
        if "offset_s" in self._modules:
            self._reset_offsets()

    def _reset_offsets(self) -> None:
        for parameter in (*self.offset_s.parameters(), *self.offset_l.parameters()):
            nn.init.zeros_(parameter)

    def _branches(self, x: Tensor, weight: Tensor, wide_weight: Tensor) -> tuple[Tensor, Tensor]:
        seen = averaged(x)
        return (
            self._deformed(x, finite_or(self.offset_s(seen), 0.0), weight, 1),
            self._deformed(x, finite_or(self.offset_l(seen), 0.0), wide_weight, RATE),
        )

    def _deformed(self, x: Tensor, offset: Tensor, weight: Tensor, rate: int) -> Tensor:
        return deformed(self, x, offset, weight, rate)

    def branch(self, kernel: Tensor, bias: Tensor | None, *, wide: bool) -> nn.Conv2d:
        """See :class:`SAConv2d`; a plain convolution if the offsets are zero."""
        offset = self.offset_l if wide else self.offset_s
        conv = super().branch(kernel, bias, wide=wide)
        return DeformedBranch(self, conv, offset, RATE if wide else 1) if _any(offset) else conv

    @property
    def folded_class(self) -> type[FoldedSAConv2d]:
        """See :class:`SAConv2d`."""
        return FoldedDeformableSAConv2d


class DeformedBranch(nn.Conv2d):
    """A deformable convolution with a constant kernel, (N, C_in, H, W) → (N, C_out, H_out, W_out). For inference."""

    def __init__(self, layer: DeformableSAConv2d, conv: nn.Conv2d, offset: nn.Conv2d, rate: int) -> None:
        super().__init__(**settings_of(layer), bias=conv.bias is not None, device="meta", dtype=conv.weight.dtype)
        self.weight, self.bias, self.rate = conv.weight, conv.bias, rate
        self._reversed_padding_repeated_twice = list(layer._reversed_padding_repeated_twice)
        self.offset = copy.deepcopy(offset)

    def forward(self, input: Tensor, seen: Tensor | None = None) -> Tensor:
        """``seen`` is the input averaged over 5×5, if it has been computed already."""
        seen = averaged(input) if seen is None else seen
        return deformed(self, input, finite_or(self.offset(seen), 0.0), self.weight, self.rate)


class FoldedDeformableSAConv2d(FoldedSAConv2d):
    """:class:`FoldedSAConv2d` with at least one deformable branch."""

    def _branches(
        self, x: Tensor, narrow: nn.Module | None, wide: nn.Module | None
    ) -> tuple[Tensor | None, Tensor | None]:
        seen = averaged(x)

        def through(branch: nn.Module | None) -> Tensor | None:
            if branch is None:
                return None
            y: Tensor = branch(x, seen) if isinstance(branch, DeformedBranch) else branch(x)
            return y

        return through(narrow), through(wide)


def deformed(conv: nn.Conv2d, x: Tensor, offset: Tensor, weight: Tensor, rate: int) -> Tensor:
    """The convolution at ``rate`` times the dilation of ``conv``, with its samples moved by ``offset``, (N, 18, H_out, W_out)."""
    from torchvision.ops import deform_conv2d  # takes a second to import, and is optional

    vertical, horizontal = (rate * d for d in pair(conv.dilation))  # also the padding, which is equal here
    padding = (vertical, horizontal)
    if conv.padding_mode != "zeros":
        check_size(smallest_map(conv), x, conv)
        x = F.pad(x, (horizontal, horizontal, vertical, vertical), mode=conv.padding_mode)
        padding = (0, 0)
    # under autocast the offsets are in half precision, and the operator takes one dtype only
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    bias = None if conv.bias is None else as_dtype(conv.bias, dtype)
    x, offset, weight = (as_dtype(t, dtype) for t in (x, offset, weight))
    y: Tensor = deform_conv2d(x, offset, weight, bias, conv.stride, padding, (vertical, horizontal))
    return as_convolved(y, conv.weight)


def _any(module: nn.Module) -> bool:
    return any(bool(parameter.any()) for parameter in module.parameters())
