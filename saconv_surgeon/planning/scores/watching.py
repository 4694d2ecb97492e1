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
from saconv_surgeon.planning.scores.part_gradients import Convolution, Part

NOT_FINITE = "its gradients are not finite"
NOT_REACHED = "the loss does not depend on it, as the gradients of these batches say"
OVERWRITTEN = "its input is overwritten before the backward pass"


@dataclass
class Rows:
    """What one layer gathered: by part, (rows, parameters); ``problem`` says why there is nothing."""

    parts: dict[Part, Tensor] = field(default_factory=dict)
    reached: bool = False
    problem: str | None = None

    def add(self, part: Part, rows: slice, total: int, values: Tensor) -> None:
        """Adds ``values`` to the rows of one batch; a layer may be called more than once."""
        if part not in self.parts:
            self.parts[part] = torch.zeros(total, values.shape[1], dtype=values.dtype)
        self.parts[part][rows] += values.cpu()

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
        self.batch, self.samples = rows, samples
        self.maps_seen.clear()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooked inside."""
        with ExitStack() as stack:
            for path in self.rows:
                stack.enter_context(self._hooked(path))
            yield

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
        for part, values in Convolution(layer, kernel.to(dtype), self.seeds[path]).gradients(x, delta, mean).items():
            if not bool(values.isfinite().all()):
                found.problem = NOT_FINITE
                return
            found.add(part, self.batch, self.total, self._grouped(values, before))

    def _grouped(self, values: Tensor, before: int) -> Tensor:
        """(maps, …) → (rows, …): sums over neighbouring maps, times the number of rows.

        So every row is an estimate of the gradient of the whole batch. A layer may get several maps of each sample in one call, or
        only some of the samples in each; ``before`` is how many maps it got in earlier calls.
        """
        count, maps = self.batch.stop - self.batch.start, len(values)
        sample = torch.arange(maps, device=values.device)
        group = sample * count // maps if maps >= self.samples else (before + sample) % self.samples * count // self.samples
        return values.new_zeros(count, values.shape[1]).index_add_(0, group, values) * count


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
