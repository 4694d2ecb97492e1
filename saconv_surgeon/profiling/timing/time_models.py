"""Timing models under the settings that were asked for: batch sizes, autocast, ``torch.compile``, threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, SurgeonError, UsageError, UserCodeError, first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import collected
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.profiling.timing.alternating_runs import Run, Samples, latency_of, measure
from saconv_surgeon.profiling.timing.verdicts import ratio_of
from saconv_surgeon.records import Latency, LatencyRatio, Mode, Timing

OnRun = Callable[[float], None]
MakeRun = Callable[[Callable[..., Any], nn.Module, "FreshInputs"], Run]
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
        sized = resized(inputs, batch)
        share = replace(timing, budget_s=timing.budget_s / len(batches))
        with torch.no_grad():
            samples = time_alternately(
                models, sized, device, share, forward_run, "eval", _part_of(on_run, i, len(batches))
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
    make_run: MakeRun,
    mode: Mode,
    on_run: OnRun | None = None,
) -> list[Samples]:
    """The samples of what ``make_run`` makes of each model, under the settings of ``timing``.

    The models and the inputs are left as they were: what is timed are copies that share the weights, so that nothing that a
    forward leaves in attributes stays; a model that cannot be copied is timed itself. Parts that are compiled are timed as such.
    """
    with ExitStack() as stack:
        stack.enter_context(threads(timing.threads))
        runs = []
        for model in models:
            stack.enter_context(preserved(model, mode, compiled=True))
            subject = stand_in(model)
            stack.enter_context(preserved(subject, mode, compiled=True))
            runs.append(make_run(_called(subject, timing, device), subject, FreshInputs(inputs)))
        try:
            return measure(runs, device, budget_s=timing.budget_s, on_run=on_run)
        except SurgeonError:
            raise
        except Exception as error:
            if timing.compiled:
                raise ModelError(
                    f"torch.compile cannot compile this model ({type(error).__name__}: {first_line(error)}); time it without "
                    "--compile"
                ) from error
            if timing.batches:
                raise ModelError(
                    f"the model cannot be run with a batch of {inputs.batch} ({type(error).__name__}: {first_line(error)}); "
                    "leave that size out of --batch, or say with --batch-axis along which axis the samples lie, if not along "
                    f"{inputs.batch_axis}"
                ) from error
            raise UserCodeError(
                f"the model ran, and raised {type(error).__name__} when it was run again to be timed: {error}"
            ) from error


class FreshInputs:
    """Inputs for one run after another: containers are new each time, tensors are restored if a run has written to them."""

    def __init__(self, inputs: Inputs) -> None:
        self.original = inputs.mapped(torch.Tensor.detach)
        self.given = self.original.copied()
        self.versions: list[int] | None = None

    def renew(self) -> None:
        """For the next run. Not to be timed."""
        versions = _versions(self.given)
        if versions is None or (self.versions is not None and versions != self.versions):
            self.given = self.original.copied()
        else:
            self.given = self.given.mapped(lambda t: t)
        self.versions = _versions(self.given)

    def run(self, called: Callable[..., Any]) -> Any:
        """What ``called`` makes of them."""
        return collected(called(*self.given.args, **self.given.kwargs))


def _versions(inputs: Inputs) -> list[int] | None:
    """How often each tensor has been written to; None if that is not known."""
    return None if any(t.is_inference() for t in inputs.tensors) else [t._version for t in inputs.tensors]


def resized(inputs: Inputs, batch: int | None) -> Inputs:
    """``inputs`` with so many samples; as they are for None.

    Raises:
        UsageError: They have no batch to change, or there is no memory for so many.
    """
    try:
        return inputs if batch is None else inputs.with_batch(batch)
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise UsageError(f"a batch of {batch} asks for more than there is memory for") from error


def described(latency: Latency, samples: Samples, model: nn.Module, inputs: Inputs, timing: Timing) -> Latency:
    """``latency`` with the settings that it was measured with."""
    images = [t for t in (*model.parameters(), *inputs.tensors) if t.dim() == 4]
    kinds = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
    return replace(
        latency,
        threads=timing.threads or latency.threads,
        batch=inputs.batch,
        dtype=kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "",
        autocast=timing.autocast,
        channels_last=any(t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in images),
        compiled=timing.compiled,
        compile_s=samples.first_s if timing.compiled else None,
    )


def forward_run(called: Callable[..., Any], model: nn.Module, inputs: FreshInputs) -> Run:
    """One forward pass: for :func:`time_alternately`."""
    return Run([lambda: inputs.run(called)], prepare=inputs.renew)


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
