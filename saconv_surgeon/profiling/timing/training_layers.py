"""What each module takes in a training step: the time of its backward, and what autograd keeps for it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.profiling.memory import storage_bytes
from saconv_surgeon.profiling.timing.module_calls import ModuleCalls
from saconv_surgeon.profiling.timing.time_layers import SHARE, WARMUPS, now, seconds_of
from saconv_surgeon.profiling.timing.time_models import FreshInputs, autocast, threads
from saconv_surgeon.profiling.timing.training_step import loss_of, parameters_kept
from saconv_surgeon.records import Timing

FEWEST_PASSES = 3
LAST = 2**63
"""Sequence numbers beyond this are those of nodes that belong to no operation, as those that add up a parameter's gradient."""


@dataclass(frozen=True)
class LayerInTraining:
    """A module's own part of a step, without its children; ``backward_s`` is None if no operation of the backward is its own.

    Those that a reentrant checkpoint makes anew belong to whom it was called by.
    """

    backward_s: float | None
    saved_bytes: int


def layers_in_training(
    model: nn.Module, inputs: Inputs, device: torch.device, timing: Timing
) -> dict[str, LayerInTraining]:
    """Of each module its own backward, in seconds (medians over the passes), and the bytes that autograd keeps for it.

    The passes are in train mode, as those of :func:`~saconv_surgeon.profiling.timing.training_step.price_training`, and take a
    quarter of the budget. An operation of the backward belongs to the module in whose forward it was recorded. Memory belongs to
    the module that first keeps it, each piece once, parameters and buffers not at all, so that the rows add up to what the whole
    model keeps. What happens outside of every module, as the sum of the outputs, belongs to none. The model is left as it was.
    """
    fresh = FreshInputs(inputs)
    with ExitStack() as stack:
        stack.enter_context(parameters_kept(model))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(threads(timing.threads))
        stack.enter_context(preserved(model, "train"))
        subject = stand_in(model)
        stack.enter_context(preserved(subject, "train"))

        def forward() -> Any:
            fresh.renew()
            with autocast(timing, device):
                return fresh.run(subject)

        calls = _Recording(subject)
        calls.attach()
        try:
            kept = calls.saved_by(forward)
            passes: list[dict[str, float]] = []
            start = time.perf_counter()
            while len(passes) < WARMUPS + FEWEST_PASSES or time.perf_counter() - start < timing.budget_s / SHARE:
                passes.append(calls.backward_of(forward, device))
                for parameter in subject.parameters():
                    parameter.grad = None
        finally:
            calls.detach()
    measured = passes[WARMUPS:]
    return {
        path: LayerInTraining(
            float(np.median([each.get(path, 0.0) for each in measured]))
            if any(path in each for each in measured)
            else None,
            kept.get(path, 0),
        )
        for path in dict.fromkeys([*calls.ran, *kept])
    }


class _Recording(ModuleCalls):
    """Records for each operation of the backward in whose forward it was made, by autograd's own sequence numbers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.ran: dict[str, None] = {}
        self.changes: list[tuple[int, str]] = []

    def entered(self) -> None:
        self.ran[self.path] = None
        self._changed(self.path)

    def left(self) -> None:
        self._changed(self.paths[self.running[-2]] if len(self.running) > 1 else None)

    def _changed(self, path: str | None) -> None:
        number = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
        self.changes.append((number, OUTSIDE if path is None else path))

    def saved_by(self, forward: Callable[[], Any]) -> dict[str, int]:
        """Bytes that are kept from a forward, by the module that was running."""
        own = {
            t.untyped_storage()._cdata
            for t in (*self.model.parameters(), *self.model.buffers())
            if t.layout is torch.strided
        }
        kept: dict[str, list[Tensor]] = {}

        def keep(t: Tensor) -> Tensor:
            if self.running and t.layout is torch.strided and t.untyped_storage()._cdata not in own:
                own.add(t.untyped_storage()._cdata)
                kept.setdefault(self.path, []).append(t.detach())
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            output = forward()
        found = {path: storage_bytes(tensors) for path, tensors in kept.items()}
        del output
        return found

    def backward_of(self, forward: Callable[[], Any], device: torch.device) -> dict[str, float]:
        """Seconds of the backward of one step, by module."""
        self.changes, self.running = [], []
        loss = loss_of(forward())
        at = [number for number, _ in self.changes]
        spans: list[tuple[str, tuple[Any, Any]]] = []
        nodes = list(_nodes(loss, lambda number: self.changes[bisect_right(at, number) - 1][1] if at else OUTSIDE))
        handles = [handle for node, path in nodes for handle in _timed(node, path, spans, device)]
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        for handle in handles:
            handle.remove()
        taken: dict[str, float] = {}
        for path, span in spans:
            taken[path] = taken.get(path, 0.0) + seconds_of(span)
        return taken


OUTSIDE = "\0"
"""In the place of a path: no module was running."""


def _nodes(loss: Tensor, module_at: Callable[[int], str]) -> Iterator[tuple[Any, str]]:
    """Every operation of the backward from ``loss`` with its module; what has no number belongs to the first that leads to it."""
    waiting: list[tuple[Any, str]] = [(loss.grad_fn, OUTSIDE)]
    seen = set()
    while waiting:
        node, consumer = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        number = node._sequence_nr()
        path = consumer if number >= LAST else module_at(number)
        yield node, path
        waiting += [(following, path) for following, _ in node.next_functions]


def _timed(node: Any, path: str, spans: list[tuple[str, tuple[Any, Any]]], device: torch.device) -> Iterator[Any]:
    started: list[Any] = []

    def begins(gradients: Any) -> None:
        started.append(now(device))

    def ends(inputs: Any, outputs: Any) -> None:
        if path != OUTSIDE and started:
            spans.append((path, (started.pop(), now(device))))

    yield node.register_prehook(begins)
    yield node.register_hook(ends)
