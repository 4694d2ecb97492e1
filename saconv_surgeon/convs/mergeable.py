"""``MergeableConv2d``: a convolution that has more to learn with while it is trained, and is one convolution afterwards."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.affine import Affine, remainder
from saconv_surgeon.convs.branches import Branch, Merged
from saconv_surgeon.convs.converted import ACTIVATION, NORM
from saconv_surgeon.convs.converted_conv import ConvertedConv2d
from saconv_surgeon.convs.folded import carry_attributes
from saconv_surgeon.convs.gradients import can_look_at, is_finite
from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.convs.own_norm import OwnNorm


class MergeableConv2d(OwnNorm, ConvertedConv2d):
    """``act(bn(conv(x)) + the sum of its branches)``; ``bn`` and ``act`` may be None.

    ``bn`` is the norm that followed the convolution: as in the published blocks, it belongs to the convolution alone, and each
    branch has a norm of its own, whose scale and shift start at zero. Until they move, the layer computes what convolution and
    norm compute, to the bit. In inference everything before ``act`` is linear, and :meth:`folded` gives one ``nn.Conv2d``.

    A subclass says which branches there are in ``make_branches``. One that computes its kernel instead overrides ``kernel``.
    """

    norm_is_last = False

    def __init__(self, *args: Any, bn: nn.Module | None = None, act: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        where: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        with torch.random.fork_rng(devices=[]):  # their random initial values are thrown away
            for name, branch in self.make_branches(where).items():
                self.add_module(name, branch)
        self.register_module(NORM, bn)
        self.register_module(ACTIVATION, act)
        guard(self)
        self._reset_new_parameters()

    def make_branches(self, where: Mapping[str, Any]) -> dict[str, Branch]:
        """The branches by name; ``where`` has device and dtype."""
        return {}

    def branches(self) -> Iterator[tuple[str, Branch]]:
        """The branches and their names."""
        yield from ((name, part) for name, part in self._modules.items() if isinstance(part, Branch))

    def kernel(self) -> Tensor:
        """The kernel that the layer convolves with, (C_out, C_in/groups, H, W)."""
        return self.weight

    def computed(self, x: Tensor) -> Tensor:
        """See :class:`ConvertedConv2d`."""
        own = self._own(x)
        added = [(branch, branch(x, self)) for _, branch in self.branches()]
        y = sum((part for _, part in added), own)
        if can_look_at(x) and not is_finite(y):  # nothing times infinity is no number: without what adds nothing
            y = sum((part for branch, part in added if not branch.is_silent()), own)
        return y if self.act is None else self.act(y)

    def contributions(self, x: Tensor) -> dict[str, Tensor]:
        """See :class:`ConvertedLayer`: the convolution with its norm, and each branch."""
        return {"conv": self._own(x)} | {name: branch(x, self) for name, branch in self.branches()}

    def _own(self, x: Tensor) -> Tensor:
        y = self._conv_forward(x, self.kernel(), self.bias)
        return y if self.bn is None else self.bn(y)

    def is_at_rest(self) -> bool:
        """Whether the layer, without its own norm and activation, still is the plain convolution, to the bit."""
        if any(tensor.is_meta for tensor in (*self.parameters(), *self.buffers())):
            return False
        return all(branch.is_silent() for _, branch in self.branches())

    def folded(self, then: Affine | None = None, *, own_norm: bool = True) -> nn.Module:
        """See :class:`ConvertedLayer`: one ``nn.Conv2d``, and its own activation after it if it has one.

        A copy of the layer if its own norm is not constant in inference.
        """
        if then is None and self.takes_norm and self.is_at_rest():
            return self.to_conv2d()
        try:
            merged = self.merged()
        except ValueError:
            return copy.deepcopy(self)
        if then is not None:
            merged = Merged(then.kernel(merged.kernel), then.bias(merged.bias))
        bias = merged.bias if self._has_bias(then) else None
        conv = self.plain(self._needed(merged.kernel).to(self.weight.dtype), bias)
        rest = {} if self.bn is None else {NORM: remainder(self.bn)}
        rest |= {} if self.act is None else {ACTIVATION: self.act}
        kept = {name: copy.deepcopy(part) for name, part in rest.items() if type(part) is not nn.Identity}
        if not kept:
            return conv
        block = nn.Sequential(OrderedDict(conv=conv, **kept)).train(self.training)
        carry_attributes(self, block)
        return block

    def merged(self) -> Merged:
        """The kernel and the bias of the one convolution that computes the layer before ``act``, in eval mode, in float64.

        Raises:
            ValueError: A norm is not constant in inference.
        """
        kernel = self.kernel().detach().double()
        bias = kernel.new_zeros(self.out_channels) if self.bias is None else self.bias.detach().double()
        merged = Merged(kernel, bias)
        if self.bn is not None:
            merged = merged.through(self.bn)
        for _, branch in self.branches():
            merged = merged + branch.merged(self)
        return merged

    def _needed(self, kernel: Tensor) -> Tensor:
        """What of a merged kernel has to be computed with."""
        return kernel

    def _has_bias(self, then: Affine | None) -> bool:
        return self.bias is not None or self.bn is not None or then is not None or any(True for _ in self.branches())

    def why_not_published(self, source: str) -> str | None:
        """See :class:`ConvertedLayer`: the authors' blocks have norms, no bias, and are padded with zeros."""
        if self.padding_mode != "zeros":
            return f"{source} pads with zeros only"
        if self.bias is not None:
            return f"{source} has no bias beside its norms"
        if self.bn is None and any(True for _ in self.branches()):
            return f"{source} has a norm behind the trained kernel, inside of the block; here none followed that could go in"
        return None

    def rest_with_weight(self) -> None:
        """See :class:`~saconv_surgeon.convs.guarded_layers.GuardedLayer`: a layer at rest uses its kernel, whatever it is."""

    def reset_parameters(self) -> None:
        """Draws a new kernel as ``nn.Conv2d`` does; the layer then computes the plain convolution with it."""
        if not self.weight.is_meta:
            super().reset_parameters()
        if NORM in self._modules:  # nn.Conv2d's constructor calls this before there are branches
            self._reset_new_parameters()

    def _reset_new_parameters(self) -> None:
        """Kernels of branches are drawn from a seed that follows from the layer's own kernel, and not from the global one."""
        generator = self.generator_of_kernel()
        for _, branch in self.branches():
            branch.silence(generator)
