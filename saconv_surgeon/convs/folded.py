"""``FoldedSAConv2d``: a trained switchable atrous convolution for inference, without the parts that are constant, 0 or 1."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.converted import as_one_node
from saconv_surgeon.convs.failing_geometries import run
from saconv_surgeon.convs.geometry import Centres, check_size, narrow_padding, smallest_padded
from saconv_surgeon.convs.gradients import as_dtype, blended, can_look_at, is_finite, shifted, spatial_mean
from saconv_surgeon.convs.guarded_layers import WithoutWeight
from saconv_surgeon.convs.memory_format import laid_out_like
from saconv_surgeon.convs.switch import switch_at
from saconv_surgeon.convs.weight_readers import has_run, note_reader


class FoldedSAConv2d(WithoutWeight):
    """Computes the same as an ``SAConv2d``, (N, C_in, H, W) → (N, C_out, H_out, W_out), with less work; for inference.

    ``narrow`` and ``wide`` are the two branches. Their kernels are constant: standardised, multiplied by the scale of the norm
    after the layer, and by the switch if that is constant. A part that would change nothing is None:

    * ``narrow`` or ``wide``, if the switch is 0 or 1.
    * ``switch_weight`` (1, C_in, 1, 1) and ``switch_bias`` (1,); without them the branches are added.
    * ``pre_context`` (1×1, C_in → C_in), or ``pre_shift`` (C_in, 1, 1) if the context does not depend on the input.
    * ``post_context`` (1×1, C_out → C_out). It needs the mean of the blend before the norm, so the norm's shift is not in the
      kernels then but in the context; its scale s is, and divided out of the mean by the context. If some s is almost 0,
      ``scale`` (C_out, 1, 1) is applied when the context is added.
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

    def forward(self, input: Tensor | fx.Proxy) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out); (C_in, H, W) without a batch too.

        Raises:
            ValueError: The map is too small for the ``padding_mode`` of the wide branch.
        """
        if isinstance(input, fx.Proxy):
            return as_one_node(self, input)
        if input.dim() == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        has_run(self)
        return self._computed(input)

    def _computed(self, x: Tensor) -> Tensor:
        # nn.Module.__getattr__ takes a microsecond for each of the dozen parts
        parts, constants = self._modules, self._parameters
        after = parts["post_context"]
        looks = can_look_at(x)
        y, mean = self._before_post_context(x, guarded=not looks)
        if looks and self._carries_on() and not is_finite(y if mean is None else mean):  # see SAConv2d
            y, mean = self._before_post_context(x, guarded=True)
        return y if after is None or mean is None else shifted(y, after(mean), constants["scale"])

    def _carries_on(self) -> bool:
        """Whether there is a part that could carry what is not finite further than a convolution does."""
        parts, constants = self._modules, self._parameters
        contexts = parts["pre_context"] is not None or parts["post_context"] is not None
        return contexts or constants["switch_weight"] is not None

    def _before_post_context(self, x: Tensor, *, guarded: bool) -> tuple[Tensor, Tensor | None]:
        parts, constants = self._modules, self._parameters
        before, after, shift = parts["pre_context"], parts["post_context"], constants["pre_shift"]
        if before is not None:
            x = laid_out_like(x + before(spatial_mean(x, guarded=guarded)), x)
        elif shift is not None:
            x = laid_out_like(x + shift, x)
        y = self._blend(x, constants["switch_weight"], constants["switch_bias"], guarded)
        return y, None if after is None else spatial_mean(y, guarded=guarded)

    def _blend(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, guarded: bool) -> Tensor:
        small, large = self._branches(x, self._modules["narrow"], self._modules["wide"])
        if small is None or large is None:
            alone = large if small is None else small
            assert alone is not None
            return alone
        if weight is None or bias is None or self.centres is None:
            return shifted(small, large)
        switch = switch_at(self.centres, x, small, weight, bias, guarded=guarded)
        return blended(small, large, as_dtype(switch, small.dtype), guarded=guarded)

    def _branches(
        self, x: Tensor, narrow: nn.Module | None, wide: nn.Module | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.smallest is not None:
            check_size(self.smallest, x, self)
        return None if narrow is None else narrow(x), None if wide is None else run(wide, x)

    @property
    def is_folded(self) -> bool:
        """See :class:`ConvertedLayer`."""
        return True

    @property
    def weight(self) -> Tensor:
        """The kernel of a branch, for code that reads dtype or device from a layer's kernel; the guard remembers such code."""
        if not torch.compiler.is_compiling():
            note_reader(self)
        branch = self.narrow if self.wide is None else self.wide
        assert branch is not None
        kernel: Tensor = branch.weight  # type: ignore[assignment]
        return kernel

    @property
    def parts(self) -> tuple[str, ...]:
        """What the layer still computes: some of ``narrow``, ``wide``, ``switch``, ``pre-context`` and ``post-context``."""
        pre = self.pre_context if self.pre_context is not None else self.pre_shift
        parts = {"narrow": self.narrow, "wide": self.wide, "switch": self.switch_weight}
        parts |= {"pre-context": pre, "post-context": self.post_context}
        return tuple(name for name, part in parts.items() if part is not None)

    def extra_repr(self) -> str:
        """The parts that are left."""
        return ", ".join(self.parts)


def carry_attributes(layer: nn.Module, folded: nn.Module) -> None:
    """Copies to ``folded`` the settings of ``layer``, and attributes that other code has put on the object."""
    for name, value in vars(layer).items():
        if name not in vars(folded) and name not in ("absorbed", "renamed", "parts"):
            setattr(folded, name, value)


def live(bias: Tensor | None) -> Tensor | None:
    """``bias``, or None if it is zero everywhere."""
    return bias.detach() if bias is not None and bool(bias.any()) else None


def kernel_through(then: Affine | None, kernel: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """``factor`` times a kernel, through the norm ``then``; computed in float64 and rounded once to ``dtype``."""
    exact = kernel.double() * factor
    return (exact if then is None else then.kernel(exact)).to(dtype)


def bias_through(then: Affine | None, parts: Iterable[Tensor | None]) -> Tensor | None:
    """The sum of some biases through the norm ``then``, in float64; None if there are none and no norm."""
    known = [part.detach().double() for part in parts if part is not None]
    total = sum(known[1:], known[0]) if known else None
    return total if then is None else then.bias(total)


SMALLEST_SCALE = 1e-6
"""Of a norm that is computed before a mean is taken: what it makes smaller is rounded more coarsely in the end."""


def scale_inside(then: Affine | None, dtype: torch.dtype) -> Affine | None:
    """The scale alone of the norm ``then``, if it can be computed before a post-context instead of after it."""
    if then is None or dtype not in (torch.float32, torch.float64) or bool((then.scale.abs() < SMALLEST_SCALE).any()):
        return None
    return Affine(then.scale, torch.zeros_like(then.shift))


def context_through(then: Affine | None, context: nn.Conv2d, inside: Affine | None = None) -> nn.Conv2d:
    """A copy of a context whose output is added after the norm ``then`` instead of before it.

    The copy gets the mean before the norm, or that after the scale ``inside``.
    """
    copied = copy.deepcopy(context)
    if then is not None:
        then.into(copied)
    if then is not None and inside is not None:
        exact = context.weight.detach().double() * then.scale.reshape(-1, 1, 1, 1) / inside.scale.reshape(1, -1, 1, 1)
        copied.weight = nn.Parameter(exact.to(context.weight.dtype), requires_grad=False)
    return copied
