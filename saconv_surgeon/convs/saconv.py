"""``SAConv2d``: switchable atrous convolution.

Source: DetectoRS (Qiao, Chen, Yuille, CVPR 2021, arXiv 2006.02334), section 4, equation 4 and figure 5.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from saconv_surgeon.convs.affine import Affine, remainder
from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.context import GlobalContext
from saconv_surgeon.convs.converted import ACTIVATION, BLOCK_PARTS, NORM, as_one_node
from saconv_surgeon.convs.failing_geometries import convolve
from saconv_surgeon.convs.foldable import FoldableSAConv2d
from saconv_surgeon.convs.folded import carry_attributes
from saconv_surgeon.convs.geometry import Centres, check_size, pair, smallest_map, wide_dilation, wide_padding
from saconv_surgeon.convs.gradients import as_dtype, blended, can_look_at, is_finite, shifted, spatial_mean
from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.convs.memory_format import laid_out_like
from saconv_surgeon.convs.saconv_parts import Parts, fit_to_parts, has_branches, has_contexts, parse_parts
from saconv_surgeon.convs.switch import switch_at
from saconv_surgeon.convs.weight_readers import has_run


class SAConv2d(FoldableSAConv2d):
    r"""Blends a convolution with one of three times its dilation, by a switch computed at every output position.

    With w the standardised kernel of :class:`ConvAWS2d` and S the switch,

    .. math:: y = S \cdot conv(x; w, d) + (1 - S) \cdot conv(x; w + \Delta w, 3d)

    between two global contexts, ``x + A GAP(x) + a`` before and ``y + B GAP(y) + c`` after. S is unbounded: there is no
    sigmoid. A new layer has S = 1 and zero for A, a, B, c and Δw: it computes the plain convolution, to the bit.

    ``stride``, ``padding`` (also ``"same"`` and ``"valid"``), ``dilation``, ``groups`` and ``padding_mode`` are those of
    ``nn.Conv2d``; the wide branch is padded so that both branches are aligned and of equal size. The bias is
    given to both branches, and S + (1 - S) = 1.

    Parameters in addition to those of ``nn.Conv2d``: ``weight_diff`` (the kernel's shape), ``switch`` (1×1, C_in → 1),
    ``pre_context`` (1×1, C_in → C_in), ``post_context`` (1×1, C_out → C_out). With ``parts="contexts"`` the layer has no wide
    branch and no switch, and y is the narrow convolution between the contexts; with ``parts="branches"`` it has no contexts. A
    part that a layer does not have is None, has no key in its state dict, and is not computed.

    Args:
        *args: As for ``nn.Conv2d``.
        bn: A norm that is part of the block, applied to y.
        act: An activation that is part of the block, applied last.
        parts: What the layer has besides its convolution: ``"all"``, ``"contexts"`` or ``"branches"``.
        **kwargs: As for ``nn.Conv2d``.

    Raises:
        ValueError: ``parts`` is something else.
    """

    resizable = False
    parts: Parts = "all"
    _own_attributes = (*ConvAWS2d._own_attributes, "parts")

    def __init__(
        self,
        *args: Any,
        bn: nn.Module | None = None,
        act: nn.Module | None = None,
        parts: Parts = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.parts = parse_parts(parts)
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        branches, contexts = has_branches(parts), has_contexts(parts)
        self.register_parameter("weight_diff", nn.Parameter(torch.empty_like(self.weight)) if branches else None)
        with torch.random.fork_rng(devices=[]):  # their random initial values are thrown away
            self.register_module("switch", nn.Conv2d(self.in_channels, 1, 1, **where) if branches else None)
            self.register_module("pre_context", GlobalContext(self.in_channels, **where) if contexts else None)
            self.register_module("post_context", GlobalContext(self.out_channels, **where) if contexts else None)
        self.register_module(NORM, bn)
        self.register_module(ACTIVATION, act)
        guard(self)
        self._reset_new_parameters()

    def forward(self, input: Tensor | fx.Proxy) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out), sizes as in ``nn.Conv2d``; (C_in, H, W) without a batch too.

        Raises:
            ValueError: The map is too small for the wide branch's ``padding_mode``.
        """
        if isinstance(input, fx.Proxy):
            return as_one_node(self, input)
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        has_run(self)
        y = self.blended(input)
        if self.bn is not None:
            y = self.bn(y)
        if self.act is not None:
            y = self.act(y)
        return y

    def blended(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out): y of the formula above, before ``bn`` and ``act``."""
        looks = can_look_at(x)
        y, mean = self._before_post_context(x, guarded=not looks)
        if looks and not is_finite(y if mean is None else mean):  # once more, so that what is not finite stays there
            y, mean = self._before_post_context(x, guarded=True)
        return y if self.post_context is None or mean is None else shifted(y, self.post_context(mean))

    def _before_post_context(self, x: Tensor, *, guarded: bool) -> tuple[Tensor, Tensor | None]:
        """The blend, and its mean if a context needs it; ``guarded`` against values that are not finite."""
        if self.pre_context is not None:
            x = laid_out_like(x + self.pre_context(spatial_mean(x, guarded=guarded)), x)
        y = self._blend(x, guarded=guarded)
        return y, None if self.post_context is None else spatial_mean(y, guarded=guarded)

    def _blend(self, x: Tensor, *, guarded: bool) -> Tensor:
        weight, difference = self.standardised_weight(), self.weight_diff
        dtype = self.weight.dtype
        if difference is None:
            return self._conv_forward(x, as_dtype(weight, dtype), self.bias)
        small, large = self._branches(x, as_dtype(weight, dtype), as_dtype(weight + difference, dtype))
        switch = self.switch_at(x, small, guarded=guarded)
        return blended(small, large, as_dtype(switch, small.dtype), guarded=guarded)

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
        """See :class:`ConvAWS2d`. Also loads what a layer with other parts wrote, if nothing is lost: parts that are not in the
        state dict are set to rest, and parts at rest that the layer does not have are passed over. Otherwise nothing is loaded.

        Keys of a norm are unexpected if the layer has none; torch by itself would ignore them.
        """
        own = dict(self.named_parameters())
        lost = fit_to_parts(state_dict, prefix, self.parts, {name: p.shape for name, p in own.items()})
        if lost:
            state_dict.update({prefix + name: p for name, p in own.items()})  # its parts load themselves
            error_msgs.append(self._refusal(prefix, lost))
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if strict:
            empty = tuple(f"{prefix}{name}." for name in BLOCK_PARTS if getattr(self, name, None) is None)
            unexpected_keys += [key for key in state_dict if key.startswith(empty) and key not in unexpected_keys]

    def _refusal(self, prefix: str, lost: list[str]) -> str:
        place = f" at {prefix.removesuffix('.')!r}" if prefix else ""
        return (
            f"{', '.join(prefix + key for key in lost)}: trained parts, which {type(self).__name__}{place} with "
            f"parts={self.parts!r} does not have; load them into one with parts='all', or leave these keys out to lose them"
        )

    def is_at_rest(self) -> bool:
        """Whether y, before ``bn`` and ``act``, is still the plain convolution with the layer's kernel, to the bit."""
        zero = [] if self.weight_diff is None else [self.weight_diff]
        for context in (self.pre_context, self.post_context):
            zero += [] if context is None else context.parameters()
        return (
            super().is_at_rest() and not any(bool(tensor.any()) for tensor in zero) and self._uses_narrow_branch_only()
        )

    def _uses_narrow_branch_only(self) -> bool:
        """Whether S is 1 everywhere, for whatever input."""
        if self.switch is None:
            return True
        assert self.switch.bias is not None
        return not bool(self.switch.weight.any()) and bool((self.switch.bias == 1).all())

    def options(self) -> dict[str, str]:
        """See :class:`ConvertedLayer`."""
        return {} if self.parts == "all" else {"parts": self.parts}

    def extra_repr(self) -> str:
        """As for ``nn.Conv2d``, with the parts unless it has all."""
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in self.options().items())])

    def folded(self, then: Affine | None = None, *, own_norm: bool = True) -> nn.Module:
        """See :class:`ConvertedLayer`: an ``nn.Conv2d``, a :class:`FoldedSAConv2d`, or a block of one and what follows it."""
        norm = Affine.of(self.bn) if own_norm and self.bn is not None else None
        core = self._folded_core(norm or then)
        after = {NORM: self.bn if norm is None or self.bn is None else remainder(self.bn), ACTIVATION: self.act}
        parts = {n: copy.deepcopy(p) for n, p in after.items() if p is not None and type(p) is not nn.Identity}
        if not parts:
            return core
        block = nn.Sequential(OrderedDict(conv=core, **parts)).train(self.training)
        carry_attributes(self, block)
        return block

    def reset_parameters(self) -> None:
        """Draws a new kernel as ``nn.Conv2d`` does; the layer then computes the plain convolution with it."""
        super().reset_parameters()
        if "weight_diff" in self._parameters:
            self._reset_new_parameters()

    def _reset_new_parameters(self) -> None:
        if self.weight_diff is not None:
            self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        for part in (self.switch, self.pre_context, self.post_context):
            if part is not None:
                assert part.bias is not None
                nn.init.zeros_(part.weight)
                nn.init.constant_(part.bias, 1.0 if part is self.switch else 0.0)

    def _branches(self, x: Tensor, weight: Tensor, wide_weight: Tensor) -> tuple[Tensor, Tensor]:
        """The two convolutions that the switch blends."""
        return self._conv_forward(x, weight, self.bias), self._wide_forward(x, wide_weight)

    def _wide_forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution at three times the dilation, its outputs at the positions of the narrow one.

        Raises:
            ValueError: The map is too small for the padding mode.
        """
        dilation = wide_dilation(self)
        padding = wide_padding(self)
        if self.padding_mode != "zeros":
            check_size(smallest_map(self), x, self)
            x, padding = F.pad(x, padding, mode=self.padding_mode), (0, 0, 0, 0)
        return convolve(x, weight, self.bias, pair(self.stride), padding, dilation, self.groups)

    def switch_at(self, x: Tensor, like: Tensor, *, guarded: bool = True) -> Tensor:
        """S at the centre of every output, (N, 1, H_out, W_out), for ``like``, the output, and x after the pre-context.

        Of a layer that has a switch.
        """
        assert self.switch is not None
        assert self.switch.bias is not None
        return switch_at(Centres.of(self), x, like, self.switch.weight, self.switch.bias, guarded=guarded)
