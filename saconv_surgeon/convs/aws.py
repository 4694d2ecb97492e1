"""``ConvAWS2d``: a convolution whose kernel is standardised, filter by filter, around stored statistics.

Source: "AWS" in DetectoRS (Qiao, Chen, Yuille, CVPR 2021, arXiv 2006.02334, section 4.3), which builds on weight
standardisation (Qiao et al., arXiv 1903.10520).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.converted import as_one_node
from saconv_surgeon.convs.converted_conv import ConvertedConv2d
from saconv_surgeon.convs.gradients import as_dtype, filter_statistics, standardised, statistics_dtype
from saconv_surgeon.convs.weight_readers import has_run

STATISTICS = ("weight_gamma", "weight_beta")


class ConvAWS2d(ConvertedConv2d):
    """``nn.Conv2d`` whose kernel v is used as ``gamma * (v - mean(v)) / sqrt(var(v) + 1e-5) + beta`` per filter.

    ``weight_gamma`` and ``weight_beta``, both (C_out, 1, 1, 1), are buffers and are not trained. A new layer, and one
    that loads the state dict of a plain convolution, takes them from the kernel itself, so that it computes exactly the
    plain convolution. A layer at rest whose ``weight`` is assigned takes them from the new kernel as well. Shapes, arguments and
    the other attributes are those of ``nn.Conv2d``.
    """

    weight_gamma: Tensor
    weight_beta: Tensor
    resizable = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, statistic in zip(STATISTICS, self._rest_statistics(), strict=True):
            self.register_buffer(name, statistic)

    def is_at_rest(self) -> bool:
        """Whether the layer still computes the plain convolution with its own kernel, to the bit; not if it has no values."""
        if any(tensor.is_meta for tensor in (*self.parameters(), *self.buffers())):  # they may lie on a disk
            return False
        return all(torch.equal(getattr(self, n), v) for n, v in zip(STATISTICS, self._rest_statistics(), strict=True))

    @property
    def takes_norm(self) -> bool:
        """See :class:`ConvertedLayer`."""
        return True

    def folded(self, then: Affine | None = None, *, own_norm: bool = True) -> nn.Module:
        """See :class:`ConvertedLayer`: a plain convolution with the standardised kernel."""
        if then is None and self.is_at_rest():
            return self.to_conv2d()
        kernel, bias = self.standardised_weight().detach(), self.bias
        if then is not None:
            kernel, bias = then.kernel(kernel), then.bias(bias)
        return self.plain(kernel.to(self.weight.dtype), None if bias is None else bias.detach().clone())

    def forward(self, input: Tensor | fx.Proxy) -> Tensor:
        """(N, C_in, H, W) or (C_in, H, W) → the convolution with the standardised kernel."""
        if isinstance(input, fx.Proxy):
            return as_one_node(self, input)
        has_run(self)
        return self._conv_forward(input, as_dtype(self.standardised_weight(), self.weight.dtype), self.bias)

    def standardised_weight(self) -> Tensor:
        """The kernel that is convolved with, in the dtype of the statistics (float32 for half-precision layers).

        While gamma = sigma and beta = mean, that is the kernel itself to the bit; see
        :func:`~saconv_surgeon.convs.gradients.standardised`.
        """
        v = self.weight
        v = as_dtype(v, statistics_dtype(v))
        return standardised(v, self.weight_gamma, self.weight_beta)

    def reset_parameters(self) -> None:
        """Draws a new kernel as ``nn.Conv2d`` does and takes the statistics from it."""
        if not self.weight.is_meta:  # drawing nothing takes torch 0.1 ms
            super().reset_parameters()
        if "weight_gamma" in self._buffers:  # nn.Conv2d's constructor calls this before they exist
            self._set_statistics(self._rest_statistics())

    def rest_with_weight(self) -> None:
        """See :class:`~saconv_surgeon.convs.guarded_layers.GuardedLayer`."""
        self._set_statistics(self._rest_statistics())

    def _rest_statistics(self) -> tuple[Tensor, Tensor]:
        """The gamma and beta with which the layer uses its kernel as it is."""
        if self.weight.is_meta:  # torch computes shapes in Python there, which is slow
            shape = (self.weight.shape[0], 1, 1, 1)
            gamma, beta = (torch.empty(shape, dtype=statistics_dtype(self.weight), device="meta") for _ in STATISTICS)
            return gamma, beta
        with torch.no_grad():
            return _statistics_of_whole(self.weight)

    def _set_statistics(self, values: tuple[Tensor, Tensor]) -> None:
        for name, value in zip(STATISTICS, values, strict=True):
            setattr(self, name, value)

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
        """Loads, and derives gamma and beta from the kernel if the state dict has a kernel but not them.

        Decided by the keys of the state dict. Published versions mark "absent" in the buffers before loading, which destroys
        a layer that loads its own state dict, since that holds these same buffers.
        """
        kernel = state_dict.get(prefix + "weight")
        absent = [name for name in STATISTICS if prefix + name not in state_dict]
        at_rest = None if kernel is None or absent else self._filters_at_rest_in(state_dict, prefix)
        errors_before = len(error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if kernel is None or len(error_msgs) > errors_before:
            return
        rest = dict(zip(STATISTICS, self._rest_statistics(), strict=True))
        for name, value in rest.items():
            if name in absent:
                setattr(self, name, value)
                if prefix + name in missing_keys:
                    missing_keys.remove(prefix + name)
            else:
                loaded = getattr(self, name).to(value.dtype)
                setattr(self, name, loaded if at_rest is None else _merge(at_rest, value, loaded))

    def _filters_at_rest_in(self, state_dict: dict[str, Any], prefix: str) -> Tensor | None:
        """Which filters of a state dict are used as they are, (C_out, 1, 1, 1); None if that is not known."""
        kernel, gamma, beta = state_dict[prefix + "weight"], *(_whole(state_dict[prefix + name]) for name in STATISTICS)
        if kernel.is_meta or kernel.dim() != 4 or gamma.dtype != statistics_dtype(kernel):
            return None
        with torch.no_grad():
            sigma, mean = _statistics_of_whole(kernel)
            at_rest: Tensor = (gamma == sigma) & (beta == mean)
            return at_rest

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves or casts the layer; the statistics stay float32 (float64 with a float64 kernel).

        A filter that was used as it is stays so: its statistics are computed again from the new kernel, since rounding, or
        the order of sums on another device, changes the deviation slightly.
        """
        before = _placement(self.weight)
        kept = self.weight_gamma, self.weight_beta
        at_rest = None
        if not self.weight.is_meta:
            sigma, mean = self._rest_statistics()
            at_rest = (kept[0] == sigma) & (kept[1] == mean)
        super()._apply(fn, recurse)
        if _placement(self.weight) == before and self.weight_gamma.dtype == kept[0].dtype:
            return self
        if at_rest is None and not self.weight.is_meta:  # from the meta device: there are no values yet
            dtype = statistics_dtype(self.weight)
            self._set_statistics((as_dtype(self.weight_gamma, dtype), as_dtype(self.weight_beta, dtype)))
            return self
        rest = self._rest_statistics()
        moved = [
            (getattr(self, name) if old.is_meta else old.to(value.device)).to(value.dtype)
            for name, old, value in zip(STATISTICS, kept, rest, strict=True)
        ]
        if at_rest is not None and not self.weight.is_meta:
            moved = [_merge(at_rest, value, old) for value, old in zip(rest, moved, strict=True)]
        self._set_statistics((moved[0], moved[1]))
        return self


def _statistics_of_whole(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The statistics of all filters, also if each process holds a part of the kernel."""
    sigma, mean = filter_statistics(kernel)
    return _whole(sigma), _whole(mean)


def _whole(tensor: Tensor) -> Tensor:
    """What all processes together hold of a ``DTensor``; any other tensor as it is."""
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


def _merge(at_rest: Tensor, rest: Tensor, other: Tensor) -> Tensor:
    return torch.where(at_rest.to(rest.device), rest, other.to(rest.device))


def _placement(tensor: Tensor) -> tuple[object, ...]:
    return tensor.dtype, tensor.device, tensor.stride()
