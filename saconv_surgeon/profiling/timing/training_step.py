"""What one step of training costs: its time, and the memory between forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import collected, tensors
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.models.tree.tensor_values import put_back
from saconv_surgeon.profiling.memory import LiveTensors, cuda_peak_bytes, storage_bytes, watching
from saconv_surgeon.profiling.timing.alternating_runs import Run, latency_of
from saconv_surgeon.profiling.timing.time_models import (
    FreshInputs,
    OnRun,
    autocast,
    described,
    resized,
    time_alternately,
)
from saconv_surgeon.profiling.timing.verdicts import ratio_of
from saconv_surgeon.records import LatencyRatio, Timing, TrainingCost


def price_training(
    models: Sequence[nn.Module],
    inputs: Inputs,
    device: torch.device,
    timing: Timing,
    on_run: OnRun | None = None,
) -> tuple[list[TrainingCost], LatencyRatio | None]:
    """One step of training of each model, in train mode, timed in turn; of two models, the ratio of their steps.

    A step is forward, then backward from the sum of all floating outputs; no optimiser. Of several batch sizes the first counts.
    The models are left as they were: weights (which hooks may change), gradients, modes, buffers, random state.

    Raises:
        ModelError: A model cannot be trained on these inputs.
    """
    inputs = resized(inputs, next(iter(timing.batches), None))
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(parameters_kept(model))
        stack.enter_context(torch.enable_grad())
        for model in models:
            _check(model, inputs, device, timing)
        samples = time_alternately(models, inputs, device, timing, step_run, "train", on_run)
        memory = [training_memory(model, inputs, device, timing) for model in models]
    costs = [
        TrainingCost(
            step=described(latency_of(found, device), found, model, inputs, timing),
            forward_s=float(np.median(found.stages[0])),
            backward_s=float(np.median(found.stages[1])),
            saved_bytes=saved,
            peak_memory_bytes=peak,
        )
        for model, found, (saved, peak) in zip(models, samples, memory, strict=True)
    ]
    if len(models) != 2:
        return costs, None
    return costs, replace(ratio_of(samples[0].totals, samples[1].totals), batch=inputs.batch)


def saved_bytes(model: nn.Module, inputs: Inputs) -> int:
    """Bytes that autograd keeps from the forward of ``model``, in the mode that it is in, to the backward.

    Each piece of memory once, the model's parameters and buffers, which are there anyway, not at all.
    """
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers()) if t.layout is torch.strided}
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        if t.layout is torch.strided and t.untyped_storage()._cdata not in own:
            kept.append(t.detach())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = loss_of(collected(model(*inputs.args, **inputs.kwargs)))
    total = storage_bytes(kept)
    del output
    return total


def step_run(called: Callable[..., Any], model: nn.Module, inputs: FreshInputs) -> Run:
    """Forward, then backward from the sum of the outputs: for :func:`time_alternately`."""
    parameters = list(model.parameters())
    losses: list[Tensor] = []

    def prepare() -> None:
        inputs.renew()
        for parameter in parameters:
            parameter.grad = None

    def forward() -> None:
        losses[:] = [loss_of(inputs.run(called))]

    return Run([forward, lambda: losses.pop().backward()], prepare)


def _once(called: Callable[..., Any], model: nn.Module, inputs: FreshInputs) -> Callable[[], None]:
    """One step, whole."""
    run = step_run(called, model, inputs)
    assert run.prepare is not None
    run.prepare()

    def step() -> None:
        for stage in run.stages:
            stage()

    return step


def loss_of(output: Any) -> Tensor:
    """The sum of all floating outputs."""
    sums = [t.sum(dtype=torch.float32) for t in tensors(output) if t.is_floating_point() and t.requires_grad]
    if not sums:
        raise ValueError("no output depends on a parameter that is trained")
    return torch.stack(sums).sum()


def training_memory(model: nn.Module, inputs: Inputs, device: torch.device, timing: Timing) -> tuple[int, int | None]:
    """Saved bytes, and the most that is in memory during a step; None if that step cannot be followed.

    Compiled parts run as Python, unless they can only be trained compiled, as branches of ``torch.cond``.
    """
    fresh = FreshInputs(inputs)
    with preserved(model, "train", compiled=True):
        subject = stand_in(model)

        def called(*args: Any, **kwargs: Any) -> Any:
            with autocast(timing, device):
                return subject(*args, **kwargs)

        def saved(compiled: bool) -> int:
            with preserved(subject, "train", compiled=compiled), autocast(timing, device):
                return saved_bytes(subject, inputs.copied())

        try:
            kept = saved(compiled=False)
        except Exception:
            return saved(compiled=True), None
        step = _once(called, subject, fresh)
        resident = [*subject.parameters(), *subject.buffers(), *fresh.given.tensors]
        with preserved(subject, "train"):
            if device.type == "cuda":
                return kept, cuda_peak_bytes(step, device, resident)
            live = LiveTensors(resident)
            with watching(live):
                step()
        return kept, live.peak_bytes


def _check(model: nn.Module, inputs: Inputs, device: torch.device, timing: Timing) -> None:
    try:
        with preserved(model, "train", compiled=True), autocast(timing, device):
            subject = stand_in(model)
            with preserved(subject, "train", compiled=True):
                _once(subject, subject, FreshInputs(inputs))()
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be trained on these inputs ({type(error).__name__}: {first_line(error)}); give other "
            "ones with --input (batch norms want more than one value per channel), or leave --train out"
        ) from error


@contextmanager
def parameters_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards every parameter has the value and the gradient that it had: some models step in hooks of their own."""
    kept = [(parameter, parameter.detach().clone(), parameter.grad) for parameter in model.parameters()]
    for parameter, _, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, value, gradient in kept:
            with torch.no_grad():
                put_back(parameter, value)
            parameter.grad = gradient
