"""Operations of the layers with gradients written by hand, which keep less memory and take fewer passes than autograd's.

Every function computes the same as the plain operations. It uses these if gradients of another kind are needed or if operations
themselves are recorded (``torch.compile``, ``torch.export``, ``torch.jit.trace``, ``torch.func``, forward mode). Gradients of
gradients are right as well.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from saconv_surgeon.convs.memory_format import laid_out_like

EPS = 1e-5


def filter_statistics(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The deviation and the mean of every filter of a kernel.

    Args:
        weight: (C_out, C_in/groups, k_h, k_w), any floating dtype.

    Returns:
        ``sqrt(var + 1e-5)`` and ``mean``, each (C_out, 1, 1, 1), float64 for a float64 kernel and float32 for any
        other. ``var`` is unbiased; a filter of one element, for which that is 0/0, has variance 0.
    """
    v = as_dtype(weight, statistics_dtype(weight))
    dims = (1, 2, 3)
    mean = v.mean(dims, keepdim=True)
    # Two passes over the kernel: as accurate as Welford's single pass and, on a CPU, an order of magnitude faster
    # than ``torch.var_mean``, which is not vectorised.
    centred = v - mean
    squares = centred.square() if _recorded(centred) else centred.square_()
    var = squares.sum(dims, keepdim=True) / max(v.shape[1:].numel() - 1, 1)
    return torch.sqrt(var + EPS), mean


def statistics_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of gamma and beta: rounding them to half precision would change 4-30 % of the weights."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in ``dtype``. Unlike ``Tensor.to``, adds nothing to an exported graph if it has that dtype already."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def standardised(v: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """``v * (gamma/sigma) + (beta - mean * gamma/sigma)`` per filter: v itself, to the bit, while gamma = sigma and beta = mean.

    Args:
        v: The kernel, (C_out, C_in/groups, k_h, k_w), in the dtype of gamma and beta.
        gamma: (C_out, 1, 1, 1).
        beta: (C_out, 1, 1, 1).

    Source: DetectoRS (arXiv 2006.02334), section 4.3; the textbook order ``gamma * (v - mean)/sigma + beta`` is not exact.
    """
    if _by_hand(v) and not (gamma.requires_grad or beta.requires_grad):
        result: Tensor = _Standardised.apply(v, gamma, beta)
        return laid_out_like(result, v)
    sigma, mean = filter_statistics(v)
    ratio = gamma / sigma
    return laid_out_like(torch.addcmul(beta - mean * ratio, v, ratio), v)


def blended(small: Tensor, large: Tensor, switch: Tensor, *, guarded: bool = True) -> Tensor:
    """``switch * small + (1 - switch) * large``, laid out in memory as ``small``.

    At positions whose switch is 1 that is ``small``, to the bit; if ``guarded`` also if ``large`` is infinite or NaN there.

    Overwrites ``small`` and ``large``, which must not be used by other code.

    Args:
        small: (N, C, H, W).
        large: (N, C, H, W).
        switch: (N, 1, H, W), in the same dtype.
        guarded: Whether values may be infinite or NaN; takes another pass over the map.
    """
    if _by_hand(small, large, switch) and small.requires_grad == large.requires_grad:
        result: Tensor = _Blended.apply(small, large, switch, guarded)[0]
        return result
    # lerp gives a finite `small` exactly at a switch of 1, which large + S (small - large) does not
    if not _recorded(small, large, switch):
        mixed = large.lerp_(small, switch)
        return torch.where(switch == 1, small, mixed, out=small) if guarded else laid_out_like(mixed, small)
    alone = switch == 1
    if _exporting() or not (torch.is_grad_enabled() or torch.jit.is_tracing()):  # type: ignore[attr-defined]
        return torch.where(alone, small, torch.lerp(large, small, switch))
    # the gradient of the switch needs the difference at a switch of 1 too, unless that is not finite
    bad = alone & ~(_finite(small) & _finite(large))
    mixed = torch.lerp(large.masked_fill(bad, 0.0), small.masked_fill(bad, 0.0), switch)
    return laid_out_like(torch.where(bad, small, mixed), small)


def shifted(y: Tensor, shift: Tensor, scale: Tensor | None = None) -> Tensor:
    """``scale * y + shift``. Overwrites ``y``, which must not be used by other code.

    Args:
        y: (N, C, H, W).
        shift: (N, C, 1, 1), or a map like ``y``.
        scale: (C, 1, 1); None for 1.
    """
    kept = _recorded(y, shift) or shift.dtype != y.dtype
    if scale is None:
        return laid_out_like(y + shift, y) if kept else y.add_(shift)
    # two steps in place: one step that broadcasts both takes a CPU three times as long
    return laid_out_like(torch.addcmul(shift, y, scale), y) if kept else y.mul_(scale).add_(shift)


def spatial_mean(x: Tensor, *, guarded: bool = True) -> Tensor:
    """The global average pool, (N, C, H, W) → (N, C, 1, 1); if ``guarded``, 0 for a channel whose mean is not finite.

    A context would otherwise carry one infinite pixel to all others, also with a factor of 0.
    """
    mean: Tensor = _SpatialMean.apply(x) if _by_hand(x) else F.adaptive_avg_pool2d(x, 1)
    return finite_or(mean, 0.0) if guarded else mean


def _finite(t: Tensor) -> Tensor:
    return (t < math.inf) & (t > -math.inf)


def can_look_at(x: Tensor) -> bool:
    """Whether values that follow from ``x`` may be looked at: none are recorded, and no device would have to wait."""
    return type(x) is Tensor and x.device.type == "cpu" and not _transformed()


def is_finite(t: Tensor) -> bool:
    """Whether nothing in ``t`` is infinite or NaN. Comparisons, which no counter sees: they are no operations of the model."""
    if t.numel() == 0:
        return True
    with torch._C._DisableTorchDispatch():
        return all(math.isfinite(value) for value in torch.aminmax(t.detach()))  # a NaN is the least and the most


def as_convolved(t: Tensor, weight: Tensor) -> Tensor:
    """``t`` in the dtype that a convolution with ``weight`` gives: that of autocast where it is on, else that of the kernel."""
    kind = t.device.type
    return as_dtype(t, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype)


def finite_or(t: Tensor, value: float) -> Tensor:
    """``t`` with ``value`` in the place of what is infinite or NaN, which gets no gradient."""
    if _transformed():  # exporters know these operations
        return torch.where(_finite(t), t, value)
    return t.nan_to_num(value, value, value)


def projected(x: Tensor, weight: Tensor) -> Tensor:
    """The 1×1 convolution from C channels to one, (N, C, H, W) → (N, 1, H, W), as a matrix product.

    On a CPU, convolution libraries take five times as long for one output channel.
    """
    if _unknown_size(x) or x.numel() == 0:
        return F.conv2d(x, weight)
    if _by_hand(x, weight) and not torch.is_autocast_enabled(x.device.type):
        result: Tensor = _Projected.apply(x, weight)
        return result
    return _product(x, weight)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """(N, HW, C) @ (C, 1): a view of ``x`` in either memory format."""
    n, c, height, width = x.shape
    return torch.bmm(weight.reshape(1, 1, c).expand(n, 1, c), x.flatten(2)).view(n, 1, height, width)


def _exporting() -> bool:
    """Whether a graph without gradients is made. torch 2.10 says so inside of every ``torch.compile``, also of a training."""
    return torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling()


def _by_hand(*tensors: Tensor) -> bool:
    """Whether reverse-mode gradients of these tensors are needed, and nothing records the operations."""
    return needs_gradients(*tensors) and not _transformed()


def needs_gradients(*tensors: Tensor) -> bool:
    """Whether operations on these tensors are kept for a backward pass."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def _recorded(*tensors: Tensor) -> bool:
    """Whether these tensors, or the operations on them, are kept for later, so that nothing may be overwritten."""
    return needs_gradients(*tensors) or _transformed()


def _kept_for_later(grad: Tensor) -> bool:
    """Whether a gradient will be differentiated, or is one of many that are computed at once."""
    return torch.is_grad_enabled() or _transformed() or torch._C._functorch.is_legacy_batchedtensor(grad)


def _transformed() -> bool:
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
    )


def _unknown_size(x: Tensor) -> bool:
    return any(isinstance(side, torch.SymInt) for side in x.shape)


class _Standardised(torch.autograd.Function):
    r"""With u = v - mean and n elements in a filter, the gradient is

    .. math:: \frac{\gamma}{\sigma} \left( g - \bar g - u \frac{\sum g u}{(n - 1) \sigma^2} \right)

    which is one affine map of g and v per filter. Only v is kept.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        sigma, mean = filter_statistics(v)
        ratio = gamma / sigma
        ctx.save_for_backward(v, gamma, beta, sigma, mean, ratio)
        return torch.addcmul(beta - mean * ratio, v, ratio)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, gamma, beta, sigma, mean, ratio = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient will be differentiated
            sigma, mean = filter_statistics(v)
            ratio = gamma / sigma
            weight = torch.addcmul(beta - mean * ratio, v, ratio)
            return (*torch.autograd.grad(weight, v, grad, create_graph=True), None, None)
        dims, n = (1, 2, 3), v[0].numel()
        total = grad.sum(dims, keepdim=True)
        product = (grad * v).sum(dims, keepdim=True) - mean * total
        slope = -ratio * product / (max(n - 1, 1) * sigma.square())
        result = torch.addcmul(-ratio * total / n - slope * mean, v, slope)
        return result.addcmul_(grad, ratio), None, None


class _Blended(torch.autograd.Function):
    """Keeps the difference of the two branches, in the memory of one of them, instead of both.

    The difference is an output, so that gradients of gradients flow through it.
    """

    @staticmethod
    def forward(ctx: Any, small: Tensor, large: Tensor, switch: Tensor, guarded: bool) -> tuple[Tensor, Tensor]:
        result = laid_out_like(torch.lerp(large, small, switch), small)
        if guarded:
            torch.where(switch == 1, small, result, out=result)
        difference = small.sub_(large)
        ctx.mark_dirty(small)
        ctx.save_for_backward(difference, switch)
        ctx.set_materialize_grads(False)
        return result, difference

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, of_difference: Tensor | None) -> tuple[Tensor | None, ...]:
        difference, switch = ctx.saved_tensors
        of_small = of_large = of_switch = None
        if grad is not None:
            product = grad * difference
            of_switch = product.sum(1, keepdim=True)
            # infinite for the wide branch's sake alone, which does not count there
            of_switch = of_switch.masked_fill((switch == 1) & ~of_switch.isfinite(), 0.0)
            of_small = grad * switch if _kept_for_later(grad) else torch.mul(grad, switch, out=product)
            of_large = grad - of_small
        if of_difference is not None:
            of_small = of_difference if of_small is None else of_small + of_difference
            of_large = -of_difference if of_large is None else of_large - of_difference
        return of_small, of_large, of_switch, None


class _SpatialMean(torch.autograd.Function):
    """The gradient is the same at every position: a view, whereas autograd would fill a map with it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return F.adaptive_avg_pool2d(x, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


class _Projected(torch.autograd.Function):
    """The gradient of x is an outer product, written in the memory format of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            across = weight.reshape(1, -1, 1, 1)
            of_x = grad * across if _kept_for_later(grad) else torch.mul(grad, across, out=torch.empty_like(x))
        if ctx.needs_input_grad[1]:
            if _kept_for_later(grad):
                of_weight = (grad * x).sum((0, 2, 3))[None, :, None, None]
            else:
                of_weight = torch.bmm(grad.flatten(2), x.flatten(2).transpose(1, 2)).sum(0).reshape(weight.shape)
        return of_x, of_weight
