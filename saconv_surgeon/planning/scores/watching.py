"""Watches the convolutions of a model during forward and backward, and keeps the gradients of their parts, one row for each group
of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.planning.scores.part_gradients import Convolution, Part, PartGradient

NOT_FINITE = "its gradients are not finite"
NOT_REACHED = "the loss does not depend on it, as the gradients of these batches say"
OVERWRITTEN = "its input is overwritten before the backward pass"

DAMPING = 0.03
"""Of the mean eigenvalue of second moments: directions that hardly occur say little."""


@dataclass
class Sums:
    """The gradients of one part of a layer, with the second moments of their factors over ``maps`` maps."""

    rows: Tensor
    outer: Tensor
    inner: Tensor
    maps: int = 0

    def whitened(self) -> Tensor:
        """(rows, parameters): the gradients in coordinates in which the curvature of a position's loss is about 1.

        The Fisher matrix of single positions is taken to be the Kronecker product of the two second moments (K-FAC).
        """
        left, right = _inverse_root(self.outer / self.maps), _inverse_root(self.inner / self.maps)
        return (left[:, None] @ self.rows.double() @ right[:, None]).flatten(1)


@dataclass
class Rows:
    """What one layer gathered, by part; ``problem`` says why there is nothing."""

    parts: dict[Part, Sums] = field(default_factory=dict)
    reached: bool = False
    problem: str | None = None
    positions: float = 0.0

    def add(self, part: Part, values: PartGradient, grouped: Tensor, rows: slice, total: int, scale: float) -> None:
        """Adds to the rows of one batch; a layer may be called more than once. ``scale`` is that of the gradient of a sample."""
        outer, inner = values.outer.cpu().double(), values.inner.cpu().double()
        if part not in self.parts:
            empty = torch.zeros(total, *grouped.shape[1:], dtype=grouped.dtype)
            self.parts[part] = Sums(empty, torch.zeros_like(outer), torch.zeros_like(inner))
        sums, maps = self.parts[part], len(values.rows)
        sums.rows[rows] += grouped.cpu()
        sums.outer += maps * scale**2 * outer
        sums.inner += maps * inner
        sums.maps += maps

    def end_batch(self, rows: slice) -> None:
        """From sums over all positions of a sample to means."""
        if self.positions:
            for sums in self.parts.values():
                sums.rows[rows] /= self.positions
        self.positions = 0.0

    @property
    def why_none(self) -> str | None:
        """Why no gain can be said."""
        if self.problem is None and not self.reached:
            return NOT_REACHED
        return self.problem


class Watch:
    """Hooks on the convolutions of ``model`` at ``paths``; their gradients are gathered while a backward pass runs.

    Call :meth:`next_batch` before every forward pass. ``token`` is what to differentiate the loss by: every watched output hangs
    on it, and nothing else is then computed.
    """

    def __init__(self, model: nn.Module, paths: Mapping[str, int], total: int) -> None:
        """``paths`` with the seed of each one's projections; ``total`` is the number of rows."""
        self.model = model
        self.token = torch.zeros((), requires_grad=True)
        self.total = total
        self.rows = {path: Rows() for path in paths}
        self.seeds = paths
        self.batch = slice(0, 0)
        self.samples = 0
        self.maps_seen: Counter[str] = Counter()

    def next_batch(self, rows: slice, samples: int) -> None:
        """The gradients that follow are of ``samples`` samples and belong to ``rows``."""
        self.end()
        self.batch, self.samples = rows, samples
        self.maps_seen.clear()

    def end(self) -> None:
        """The last backward pass is over."""
        for each in self.rows.values():
            each.end_batch(self.batch)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooked inside."""
        with ExitStack() as stack:
            for path in self.rows:
                stack.enter_context(self._hooked(path))
            yield
        self.end()

    @contextmanager
    def _hooked(self, path: str) -> Iterator[None]:
        layer = self.model.get_submodule(path)
        assert isinstance(layer, nn.Conv2d)
        if isinstance(layer, SAConv2d):  # with a norm of its own, before which the parts are
            plain = layer.blended
            vars(layer)["blended"] = lambda x: self._watched(path, layer, x, plain(x))
            try:
                yield
            finally:
                del vars(layer)["blended"]
            return

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            return self._watched(path, layer, args[0] if args else next(iter(kwargs.values())), output)

        handle = layer.register_forward_hook(hook, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _watched(self, path: str, layer: nn.Conv2d, x: Tensor, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        mean = output.detach().mean((-2, -1)).reshape(-1, output.shape[-3])
        before = self.maps_seen[path]
        self.maps_seen[path] += len(mean)

        def gather(x: Tensor, delta: Tensor) -> None:
            self._gather(path, layer, x, delta, mean, before)

        watched: Tensor = _Watched.apply(output, x.detach(), self.token, gather)
        return watched

    @torch.no_grad()
    def _gather(self, path: str, layer: nn.Conv2d, x: Tensor, delta: Tensor, mean: Tensor, before: int) -> None:
        found = self.rows[path]
        found.reached = found.reached or bool(delta.any())
        dtype = torch.float64 if delta.dtype == torch.float64 else torch.float32
        x, delta, mean = (t.to(dtype) for t in (x, delta, mean))
        if x.dim() == 3:
            x, delta = x[None], delta[None]
        kernel = layer.standardised_weight() if isinstance(layer, SAConv2d) else layer.weight
        gradients = Convolution(layer, kernel.to(dtype), self.seeds[path]).gradients(x, delta, mean)
        if not all(
            bool(t.isfinite().all()) for each in gradients.values() for t in (each.rows, each.outer, each.inner)
        ):
            found.problem = NOT_FINITE
            return
        found.positions += len(x) * delta[0, 0].numel() / self.samples
        for part, values in gradients.items():
            found.add(part, values, self._grouped(values.rows, before), self.batch, self.total, self.samples)

    def _grouped(self, values: Tensor, before: int) -> Tensor:
        """(maps, …) → (rows, …): sums over neighbouring maps, times the number of rows.

        So every row is an estimate of the gradient of a sample, times the number of samples if the loss is a mean over them. A
        layer may get several maps of each sample in one call, or only some of the samples in each; ``before`` is how many maps
        it got in earlier calls.
        """
        count, maps = self.batch.stop - self.batch.start, len(values)
        sample = torch.arange(maps, device=values.device)
        group = (
            sample * count // maps if maps >= self.samples else (before + sample) % self.samples * count // self.samples
        )
        return values.new_zeros(count, *values.shape[1:]).index_add_(0, group, values) * count


def _inverse_root(moments: Tensor) -> Tensor:
    """(…, C, C) → the inverse of its symmetric root; what is smaller than a share of the mean is raised to that."""
    values, vectors = torch.linalg.eigh(moments)
    floor = DAMPING * values.mean(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    return (vectors * values.clamp_min(floor).rsqrt()[..., None, :]) @ vectors.mT


class _Watched(torch.autograd.Function):
    """The output itself; on the way back, the input and the gradient at the output are handed out."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, token: Tensor, gather: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.gather = gather
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        (delta,) = grads
        ctx.gather(x, delta)
        return delta, None, None, None
