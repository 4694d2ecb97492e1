"""``FoldedSAConv2d``: a trained switchable atrous convolution for inference, without what is constant, zero or one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.geometry import Centres, check_size, narrow_padding, smallest_padded, switch_at
from saconv_surgeon.convs.gradients import as_dtype, blended, shifted, spatial_mean

if TYPE_CHECKING:
    from saconv_surgeon.convs.saconv import SAConv2d


class FoldedSAConv2d(ConvertedLayer):
    """What a :class:`SAConv2d` computes, (N, C_in, H, W) → (N, C_out, H_out, W_out), with less work; for inference.

    ``narrow`` and ``wide`` are the two branches, whose kernels are constant: standardised, multiplied by the scale of the norm
    behind the layer, and by the switch where that is constant. Each part is None where it would change nothing:

    * ``narrow`` or ``wide``, where the switch is 0 or 1.
    * ``switch_weight`` (1, C_in, 1, 1) and ``switch_bias`` (1,); without them the branches are added.
    * ``pre_context`` (1×1, C_in → C_in), or ``pre_shift`` (C_in, 1, 1) where the context does not depend on the input.
    * ``post_context`` (1×1, C_out → C_out). It sees the blend before the norm, which is then not in the kernels: ``scale``
      (C_out, 1, 1) is applied where the context is added.
    """

    narrow: nn.Module | None
    wide: nn.Module | None
    pre_context: nn.Module | None
    post_context: nn.Module | None
    switch_weight: Tensor | None
    switch_bias: Tensor | None
    pre_shift: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        narrow: nn.Module | None,
        wide: nn.Module | None,
        *,
        switch: tuple[Tensor, Tensor] | None = None,
        pre_context: nn.Module | None = None,
        pre_shift: Tensor | None = None,
        post_context: nn.Module | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        modules = {"narrow": narrow, "wide": wide, "pre_context": pre_context, "post_context": post_context}
        for name, module in modules.items():
            self.register_module(name, module)
        self.centres = Centres.of(narrow) if isinstance(narrow, nn.Conv2d) else None
        self.padding_mode = wide.padding_mode if isinstance(wide, nn.Conv2d) else "zeros"
        padded = type(wide) is nn.Conv2d and wide.padding_mode != "zeros"
        self.smallest = smallest_padded(narrow_padding(wide), wide.padding_mode) if padded else None  # type: ignore[arg-type, union-attr]
        weight, bias = switch or (None, None)
        tensors = {"switch_weight": weight, "switch_bias": bias, "pre_shift": pre_shift, "scale": scale}
        for name, tensor in tensors.items():
            constant = None if tensor is None else nn.Parameter(tensor.detach().clone(), requires_grad=False)
            self.register_parameter(name, constant)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out); (C_in, H, W) without a batch too.

        Raises:
            ValueError: The map is too small for the wide branch's ``padding_mode``.
        """
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        # a module's own way to its parts takes a microsecond for each, of which there are a dozen
        parts, constants = self._modules, self._parameters
        before, after, shift = parts["pre_context"], parts["post_context"], constants["pre_shift"]
        x = input
        if before is not None:
            x = x + before(spatial_mean(x))
        elif shift is not None:
            x = x + shift
        y = self._blend(x, constants["switch_weight"], constants["switch_bias"])
        return y if after is None else shifted(y, after(spatial_mean(y)), constants["scale"])

    def _blend(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        small, large = self._branches(x, self._modules["narrow"], self._modules["wide"])
        if small is None or large is None:
            alone = large if small is None else small
            assert alone is not None
            return alone
        if weight is None or bias is None or self.centres is None:
            return shifted(small, large)
        switch = switch_at(self.centres, x, small, weight, bias)
        return blended(small, large, as_dtype(switch, small.dtype))

    def _branches(
        self, x: Tensor, narrow: nn.Module | None, wide: nn.Module | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.smallest is not None:
            check_size(self.smallest, x, self)
        return None if narrow is None else narrow(x), None if wide is None else wide(x)

    @property
    def is_folded(self) -> bool:
        """See :class:`ConvertedLayer`."""
        return True

    @property
    def weight(self) -> Tensor:
        """The kernel of a branch, for code that asks a layer's kernel for its dtype or device."""
        branch = self.narrow if self.wide is None else self.wide
        assert branch is not None
        kernel: Tensor = branch.weight  # type: ignore[assignment]
        return kernel

    @property
    def parts(self) -> tuple[str, ...]:
        """What the layer still computes, of ``narrow``, ``wide``, ``switch``, ``pre-context`` and ``post-context``."""
        pre = self.pre_context if self.pre_context is not None else self.pre_shift
        parts = {"narrow": self.narrow, "wide": self.wide, "switch": self.switch_weight}
        parts |= {"pre-context": pre, "post-context": self.post_context}
        return tuple(name for name, part in parts.items() if part is not None)

    def extra_repr(self) -> str:
        """What is left."""
        return ", ".join(self.parts)


def fold_saconv(layer: SAConv2d, then: Affine | None = None) -> nn.Module:
    """The fastest module that computes what ``layer``, without its own norm and activation, and ``then`` behind it compute.

    That is an ``nn.Conv2d`` where one branch without contexts is left; the convolution that the layer was made from, to the
    bit, if nothing has moved; else a :class:`FoldedSAConv2d`. ``layer`` is left unchanged and shares no tensor.

    With S the switch and s, t the norm's scale and shift, ``s (S u + (1 - S) v) + t = S (s u + t) + (1 - S) (s v + t)``: a norm
    goes into both branches alike, and so do biases. Behind a context B, c that lives, it is ``s y + (s B) GAP(y) + (s c + t)``,
    where nothing is divided by s, which may be 0.
    """
    if then is None and layer.is_at_rest():
        return ConvAWS2d.to_conv2d(layer)
    switch, pre, post = _constant_switch(layer), layer.pre_context, layer.post_context
    assert layer.switch.bias is not None
    post_lives = bool(post.weight.any())
    inside = None if post_lives else then
    bias = _bias([layer.bias, None if post_lives else _live(post.bias)], inside)
    factor = 1.0 if switch is None else switch
    kernel = layer.standardised_weight().detach()
    narrow = wide = None
    if factor != 0:
        narrow = layer.branch(_kernel(layer, kernel, factor, inside), bias, wide=False)
    if factor != 1 or switch is None:
        kernel = kernel + layer.weight_diff.detach()
        rest = 1.0 if switch is None else 1.0 - switch
        shared = bias if switch is None or narrow is None else None
        wide = layer.branch(_kernel(layer, kernel, rest, inside), shared, wide=True)
    pre_lives = bool(pre.weight.any())
    shift = None if pre_lives else _live(pre.bias)
    alone = narrow if wide is None else wide if narrow is None else None
    if type(alone) is nn.Conv2d and not (pre_lives or post_lives) and shift is None:
        return alone
    folded = layer.folded_class(
        narrow,
        wide,
        switch=(layer.switch.weight, layer.switch.bias) if switch is None else None,
        pre_context=_context(pre, None) if pre_lives else None,
        pre_shift=None if shift is None else shift.reshape(-1, 1, 1),
        post_context=_context(post, then) if post_lives else None,
        scale=then.scale.reshape(-1, 1, 1).to(layer.weight.dtype) if post_lives and then is not None else None,
    )
    carry_attributes(layer, folded)
    return folded.requires_grad_(False).train(layer.training)


def carry_attributes(layer: nn.Module, folded: nn.Module) -> None:
    """Gives ``folded`` the settings of ``layer``, and what somebody else's code has put on the object."""
    for name, value in vars(layer).items():
        if name not in vars(folded) and name != "absorbed":
            setattr(folded, name, value)


def _constant_switch(layer: SAConv2d) -> float | None:
    """The switch, if it is the same whatever the input."""
    bias = layer.switch.bias
    assert bias is not None
    return None if bool(layer.switch.weight.any()) else bias.item()


def _live(bias: Tensor | None) -> Tensor | None:
    return bias.detach() if bias is not None and bool(bias.any()) else None


def _kernel(layer: SAConv2d, kernel: Tensor, factor: float, then: Affine | None) -> Tensor:
    """In the dtype of the layer, rounded once."""
    exact = kernel.double() * factor
    return (exact if then is None else then.kernel(exact)).to(layer.weight.dtype)


def _bias(parts: Sequence[Tensor | None], then: Affine | None) -> Tensor | None:
    """The sum, in float64, through the norm; None where there is none."""
    there = [part.detach().double() for part in parts if part is not None]
    total = sum(there[1:], there[0]) if there else None
    return total if then is None else then.bias(total)


def _context(context: nn.Conv2d, then: Affine | None) -> nn.Conv2d:
    """A copy, through the norm behind the addition."""
    copied = copy.deepcopy(context)
    if then is not None:
        then.into(copied)
    return copied
