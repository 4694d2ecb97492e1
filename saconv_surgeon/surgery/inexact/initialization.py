"""How layers that cannot equal their convolutions are initialized, and how much of the model's outputs is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from saconv_surgeon.convs.targets.choices import goal_of
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.errors import ModelError, UsageError, first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.run import run
from saconv_surgeon.models.running.trial_inputs import trial_of
from saconv_surgeon.records import Explained, Plan
from saconv_surgeon.surgery.inexact.calibration import calibrate
from saconv_surgeon.surgery.inexact.explained_share import explain

BATCHES = 16
"""How many batches of the data are used."""
HELD_OUT = 4
"""One batch of this many is held out of the fit."""
REDRAWN = 3
"""How many random inputs like the example ones are used if there is no data."""


def chosen_init(targets: Sequence[Target], wanted: str | None, has_data: bool) -> str | None:
    """The initialization to use for the layers of ``targets``; None if none of them needs one.

    Raises:
        UsageError: One that a target does not have, or data that would not be used.
    """
    inexact = [target for target in targets if not target.preserves]
    if not inexact:
        if wanted is not None or has_data:
            what = f"init {wanted!r}" if wanted is not None else "data"
            names = ", ".join(repr(target.name) for target in targets)
            start = f"target {names} starts" if len(targets) == 1 else f"targets {names} start"
            raise UsageError(f"the {start} as the function of its convolutions; {what} is not for it")
        return None
    if wanted is None:
        shared = [init for init in inexact[0].inits if all(init in target.inits for target in inexact)]
        wanted = "calibrate" if has_data and "calibrate" in shared else (shared or inexact[0].inits)[0]
    for target in inexact:
        if wanted not in target.inits:
            raise UsageError(f"the target {target.name!r} has no init {wanted!r}; it has: {', '.join(target.inits)}")
    if wanted == "calibrate" and not has_data:
        raise UsageError("init 'calibrate' needs data; give batches of it, or init 'project'")
    return wanted


def initialize(
    original: nn.Module,
    converted: nn.Module,
    inputs: Inputs,
    plan: Plan,
    data: Iterable[Any] | None,
    seed: int,
    on_step: Callable[[str, float], None],
) -> Explained:
    """Calibrates ``converted`` in place if the plan says so, and measures how much of ``original`` it keeps.

    Both are about the layers that cannot equal their convolutions; others may stand beside them.
    """
    calls = {s.path: s.calls for s in plan.sites if s.converts and not goal_of(plan, s).target.preserves}
    paths = tuple(calls)
    if data is None:
        looked_at: Sequence[Inputs] = [trial_of(original, inputs, i, seed, plan.mode)[0] for i in range(REDRAWN)]
        source, fitted = "the example inputs and random ones like them", None
    else:
        batches = batches_of(data, inputs, original)
        if plan.init == "calibrate":
            known, looked_at, source = _divided(batches)
            fitted = sum(batch.batch or 1 for batch in known)
            calibrate(
                original,
                converted,
                known,
                calls,
                seed=seed,
                on_layer=lambda done: on_step("calibrating", done / max(len(calls), 1)),
            )
        else:
            looked_at, source, fitted = batches, "the data", None
    on_step("explaining", 0.0)
    return explain(
        original,
        converted,
        looked_at,
        paths,
        init=plan.init or "",
        source=source,
        calibrated_on=fitted,
        seed=seed,
    )


def batches_of(data: Iterable[Any], example: Inputs, model: nn.Module) -> list[Inputs]:
    """The first batches of ``data`` as inputs of ``model``, on the devices and in the dtypes of ``example``.

    If the model takes one tensor, a batch may hold others after it, as labels; they are left out.

    Raises:
        UsageError: There are none, or the model cannot be run on them.
    """
    if isinstance(data, (Tensor, str, bytes)):
        raise UsageError(f"data is a {type(data).__name__}; needed: a list, a generator or a DataLoader of batches")
    try:
        given = iter(data)
    except TypeError as error:
        raise UsageError(
            f"data cannot be iterated over ({error}); needed: batches, each as the example inputs are"
        ) from error
    batches = [_like(_inputs(batch, example), example) for batch in islice(given, BATCHES)]
    if not batches:
        raise UsageError("data has no batches")
    for i, batch in enumerate(batches):
        if any(t.numel() == 0 for t in batch.tensors):
            raise UsageError(f"batch {i} of the data is empty")
        if not all(bool(t.isfinite().all()) for t in batch.tensors if t.is_floating_point()):
            raise UsageError(f"batch {i} of the data holds values that are not finite")
        _check_runs(model, batch, i)
    return batches


def _check_runs(model: nn.Module, batch: Inputs, i: int) -> None:
    try:
        run(model, batch, seed=0)
    except Exception as error:
        sizes = ", ".join(str(tuple(shape)) for shape in batch.shapes) or "no tensors"
        raise ModelError(
            f"the model cannot be run on batch {i} of the data, {sizes} ({type(error).__name__}: {first_line(error)}); "
            "each batch must have the form of the example inputs"
        ) from error


def _inputs(batch: Any, example: Inputs) -> Inputs:
    takes_one = len(example.args) == 1 and not example.kwargs and isinstance(example.args[0], Tensor)
    if takes_one and isinstance(batch, (list, tuple)):
        first = next((leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)), None)
        return Inputs.of(batch if first is None else first)
    return Inputs.of(batch)


def _like(batch: Inputs, example: Inputs) -> Inputs:
    batch = replace(batch, batch_axis=example.batch_axis)
    floats = [t for t in example.tensors if t.is_floating_point()]
    if not floats:
        return batch
    channels_last = any(t.dim() == 4 and not t.is_contiguous() for t in floats)
    return batch.to(floats[0].device, floats[0].dtype, channels_last=channels_last)


def _divided(batches: list[Inputs]) -> tuple[Sequence[Inputs], Sequence[Inputs], str]:
    """What to fit to, what to measure on, and what the latter is called."""
    if len(batches) > 1:
        last = max(len(batches) // HELD_OUT, 1)
        return batches[:-last], batches[-last:], "batches of the data that were left out of the calibration"
    (only,) = batches
    samples = only.batch or 1
    if samples < 2:
        return batches, batches, "the data that it was calibrated on"
    last = max(samples // HELD_OUT, 1)
    parts = only.samples(0, samples - last), only.samples(samples - last, samples)
    return parts[:1], parts[1:], "samples of the data that were left out of the calibration"
