"""Timing models under the settings that were asked for: batch sizes, autocast, ``torch.compile``, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.state import preserved
from saconv_surgeon.profiling.latency import Samples, Stages, latency_of, measure
from saconv_surgeon.profiling.verdicts import ratio_of
from saconv_surgeon.records import Latency, LatencyRatio, Mode, Timing

OnRun = Callable[[float], None]
MakeStages = Callable[[Callable[..., Any], nn.Module, Inputs], Stages]
"""From what is called in a model's place, the model, and its inputs."""


@dataclass(frozen=True)
class Timed:
    """Of each model, the latencies at every batch size; of two models, their ratios, in the same order."""

    latencies: tuple[tuple[Latency, ...], ...]
    ratios: tuple[LatencyRatio, ...] = ()


def time_models(
    models: Sequence[nn.Module],
    inputs: Inputs,
    device: torch.device,
    timing: Timing,
    on_run: OnRun | None = None,
) -> Timed:
    """The latency of one forward pass of each model, in eval mode without gradients, timed in turn.

    The models are left as they were.

    Raises:
        UsageError: The inputs have no batch that could be changed.
        ModelError: A model cannot be run at a batch size, or cannot be compiled.
    """
    batches = timing.batches or (None,)
    cells: list[list[Latency]] = [[] for _ in models]
    ratios = []
    for i, batch in enumerate(batches):
        sized = inputs if batch is None else inputs.with_batch(batch)
        share = replace(timing, budget_s=timing.budget_s / len(batches))
        with torch.no_grad():
            samples = time_alternately(
                models, sized, device, share, _forward, "eval", _part_of(on_run, i, len(batches))
            )
        for cell, model, found in zip(cells, models, samples, strict=True):
            cell.append(described(latency_of(found, device), found, model, sized, timing))
        if len(models) == 2:
            ratios.append(replace(ratio_of(samples[0].totals, samples[1].totals), batch=sized.batch))
    return Timed(tuple(map(tuple, cells)), tuple(ratios))


def time_alternately(
    models: Sequence[nn.Module],
    inputs: Inputs,
    device: torch.device,
    timing: Timing,
    stages: MakeStages,
    mode: Mode,
    on_run: OnRun | None = None,
) -> list[Samples]:
    """The samples of what ``stages`` makes of each model, under the settings of ``timing``; the models are left as they were."""
    with ExitStack() as stack:
        stack.enter_context(threads(timing.threads))
        for model in models:
            stack.enter_context(preserved(model, mode))
        runs = [stages(_called(model, timing, device), model, inputs) for model in models]
        try:
            return measure(runs, device, budget_s=timing.budget_s, on_run=on_run)
        except Exception as error:
            if timing.compiled:
                raise ModelError(
                    f"torch.compile cannot compile this model ({type(error).__name__}: {first_line(error)}); time it without "
                    "--compile"
                ) from error
            if timing.batches:
                raise ModelError(
                    f"the model cannot be run with a batch of {inputs.batch} ({type(error).__name__}: {first_line(error)}); "
                    "leave that size out of --batch"
                ) from error
            raise


def described(latency: Latency, samples: Samples, model: nn.Module, inputs: Inputs, timing: Timing) -> Latency:
    """``latency`` with the settings that it was measured with."""
    weights = [p for p in model.parameters() if p.dim() == 4]
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
    return replace(
        latency,
        threads=timing.threads or latency.threads,
        batch=inputs.batch,
        dtype=kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "",
        autocast=timing.autocast,
        channels_last=any(
            t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in weights
        ),
        compiled=timing.compiled,
        compile_s=samples.first_s if timing.compiled else None,
    )


def _forward(called: Callable[..., Any], model: nn.Module, inputs: Inputs) -> Stages:
    return [lambda: called(*inputs.args, **inputs.kwargs)]


def _called(model: nn.Module, timing: Timing, device: torch.device) -> Callable[..., Any]:
    """What to call in place of ``model``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return model(*args, **kwargs)

    # a function, since torch.compile leaves its mark on a module
    called = torch.compile(call) if timing.compiled else model

    def run(*args: Any, **kwargs: Any) -> Any:
        with autocast(timing, device):
            return called(*args, **kwargs)

    return run


def autocast(timing: Timing, device: torch.device) -> AbstractContextManager[object]:
    """``torch.autocast`` as ``timing`` has it."""
    if timing.autocast is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, timing.autocast))


def _part_of(on_run: OnRun | None, i: int, n: int) -> OnRun | None:
    return None if on_run is None else lambda done: on_run((i + done) / n)


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Runs with ``n`` CPU threads, or as many as there are."""
    before = torch.get_num_threads()
    try:
        if n is not None:
            torch.set_num_threads(n)
        yield
    finally:
        torch.set_num_threads(before)
