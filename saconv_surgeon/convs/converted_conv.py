"""``ConvertedConv2d``: the base class of converted layers that are a convolution with something more."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from saconv_surgeon.convs.converted import as_one_node
from saconv_surgeon.convs.geometry import settings_of
from saconv_surgeon.convs.guarded_layers import GuardedLayer
from saconv_surgeon.convs.parameter_extras import carry_to_layer
from saconv_surgeon.convs.weight_readers import has_run


class ConvertedConv2d(GuardedLayer, nn.Conv2d):
    """An ``nn.Conv2d`` with parts of its own, and the way there from a plain one and back.

    Arguments, shapes and the other attributes are those of ``nn.Conv2d``. A subclass is built with the options of its target, and
    sets its new parts so that they change nothing in ``_reset_new_parameters``.
    """

    _own_attributes: tuple[str, ...] = ("path", "absorbed", "renamed")
    """Plain attributes that a convolution does not have."""

    @classmethod
    def from_conv2d(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """A layer that computes what ``conv`` computes, to the bit. ``conv`` is left unchanged and shares no tensor.

        Carried over: kernel, bias, stride, padding, dilation, groups, padding mode, dtype, device, memory format,
        ``requires_grad`` (new parameters get that of the kernel), the training flag, and attributes and gradient hooks that
        other code has put on the object and its parameters.
        """
        return cls._around(conv, {name: tensor.clone() for name, tensor in conv.state_dict().items()}, **options)

    @classmethod
    def taking(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """See :class:`ConvertedLayer`."""
        return cls._around(conv, conv.state_dict(), **options)

    @classmethod
    def _around(cls, conv: nn.Conv2d, state: Mapping[str, Tensor], **options: Any) -> Self:
        """A layer with the settings of ``conv`` and the tensors in ``state``."""
        # Built on "meta" and filled afterwards: this draws no random numbers and initializes nothing in vain.
        layer = cls._like(conv, **options)
        layer.load_state_dict(state, strict=False, assign=True)
        for part in layer.children():  # as to_empty() does, which takes 60 µs for a tensor on "meta"
            _give_memory(part, conv.weight.device)
        for name, buffer in layer._buffers.items():
            if buffer is not None and buffer.is_meta:
                layer._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=conv.weight.device)
        layer._reset_new_parameters()
        for name, parameter in layer.named_parameters():
            old = conv.get_parameter(name) if name in ("weight", "bias") else conv.weight
            parameter.requires_grad_(old.requires_grad)
        # Code that changes the padding of a convolution after building it leaves this attribute as it was.
        layer._reversed_padding_repeated_twice = list(conv._reversed_padding_repeated_twice)
        for name, value in vars(conv).items():
            if name not in vars(layer):
                setattr(layer, name, value)
        carry_to_layer(conv, layer, layer.path or type(layer).__name__)
        return layer.train(conv.training)

    @classmethod
    def _like(cls, conv: nn.Conv2d, **options: Any) -> Self:
        """A layer with the arguments of ``conv``, on the meta device."""
        where: dict[str, Any] = {"device": "meta", "dtype": conv.weight.dtype}
        return cls(**settings_of(conv), bias=conv.bias is not None, **where, **options)

    def forward(self, input: Tensor | fx.Proxy) -> Tensor:
        """(N, C_in, H, W) → (N, C_out, H_out, W_out), sizes as in ``nn.Conv2d``; (C_in, H, W) without a batch too."""
        if isinstance(input, fx.Proxy):
            return as_one_node(self, input)
        has_run(self)
        return self.computed(input.unsqueeze(0)).squeeze(0) if input.dim() == 3 else self.computed(input)

    def computed(self, x: Tensor) -> Tensor:
        """What the layer computes of a batch, (N, C_in, H, W)."""
        raise NotImplementedError

    def computes_its_weight(self) -> bool:
        """See :class:`ConvertedLayer`."""
        return self.is_at_rest()

    def to_conv2d(self) -> nn.Conv2d:
        """The plain convolution that a layer at rest computes: the way back from :meth:`from_conv2d`, to the bit.

        The layer is left unchanged and shares no tensor with what is returned.

        Raises:
            ValueError: The layer is not at rest: no plain convolution computes the same.
        """
        if not self.is_at_rest():
            raise ValueError(
                f"{type(self).__name__}({self.extra_repr()}) has been trained; no plain convolution equals it"
            )
        bias = None if self.bias is None else self.bias.detach().clone()
        conv = self.plain(self.weight.detach().clone(), bias)
        for name, parameter in conv.named_parameters():
            parameter.requires_grad_(self.get_parameter(name).requires_grad)
        return conv

    def plain(self, kernel: Tensor, bias: Tensor | None) -> nn.Conv2d:
        """An ``nn.Conv2d`` with the layer's settings and these tensors as its constant parameters."""
        conv = nn.Conv2d(**settings_of(self), bias=bias is not None, device="meta", dtype=self.weight.dtype)
        conv.weight = nn.Parameter(kernel, requires_grad=False)
        if bias is not None:
            conv.bias = nn.Parameter(bias.to(self.weight.dtype), requires_grad=False)
        conv._reversed_padding_repeated_twice = list(self._reversed_padding_repeated_twice)
        for name, value in vars(self).items():
            if name not in vars(conv) and name not in self._own_attributes:
                setattr(conv, name, value)
        return conv.train(self.training)

    def generator_of_kernel(self) -> torch.Generator | None:
        """To draw new parts from: its seed follows from the kernel, and the global one stays as it is. None without values."""
        if self.weight.is_meta:
            return None
        values = self.weight.detach().flatten()[:4096].double().cpu().numpy()
        return torch.Generator().manual_seed(zlib.crc32(values.tobytes()))

    def _reset_new_parameters(self) -> None:
        """Sets the parameters that a plain convolution does not have so that they change nothing."""


def _give_memory(part: nn.Module, device: torch.device) -> None:
    """Tensors on ``device``, with any values, for those of ``part`` and its submodules."""
    for module in part.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(torch.empty(p.shape, dtype=p.dtype, device=device))
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device=device)
