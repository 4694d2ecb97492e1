"""How layers that cannot equal their convolutions are initialized, and how much of the model's outputs is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from saconv_surgeon.convs.targets.choices import goal_of
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.data_batches import data_batches
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.trial_inputs import trial_of
from saconv_surgeon.records import Explained, Plan
from saconv_surgeon.surgery.inexact.calibration import calibrate
from saconv_surgeon.surgery.inexact.explained_share import explain

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
        batches = [batch.inputs for batch in data_batches(data, inputs, original)]
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
