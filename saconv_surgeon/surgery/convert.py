"""The story of ``convert``: inspect, plan, put the new layers in, initialize them, prove that no output moved."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from saconv_surgeon.convs.targets.choices import goal_of, targets_in_use
from saconv_surgeon.errors import NoEffectWarning
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.running.described_inputs import described
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.trial_inputs import Redraw
from saconv_surgeon.models.tree.fingerprint import fingerprint, tensor_digests
from saconv_surgeon.records import Base, Equivalence, Mode, Plan
from saconv_surgeon.records.progress import OnStep
from saconv_surgeon.surgery.converted_model import Conversion
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.earlier import with_earlier
from saconv_surgeon.surgery.equivalence import layer_differences, prove, worse_of
from saconv_surgeon.surgery.fusing_methods import warn_of_fusing
from saconv_surgeon.surgery.gradient_check import with_gradients
from saconv_surgeon.surgery.inexact.initialization import chosen_init, initialize
from saconv_surgeon.surgery.inspect import make_plan
from saconv_surgeon.surgery.plan_file import read_plan
from saconv_surgeon.surgery.reached_layers import rewrite_reached


def convert_model(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: str,
    selection: Selection,
    init: str | None,
    data: Iterable[Any] | None,
    plan: Plan | str | Path | None,
    earlier: Plan | str | Path | None,
    trials: int,
    tolerance: float,
    seed: int,
    mode: Mode,
    base: Base | None,
    redraw: Redraw | None,
    on_step: OnStep,
) -> Conversion:
    """See :func:`saconv_surgeon.convert`."""
    model, inputs = opened(model, example_inputs)
    recorded = read_plan(Path(plan)) if isinstance(plan, (str, Path)) else plan
    made = make_plan(
        model,
        inputs,
        target=target,
        selection=selection,
        recorded=recorded,
        mode=mode,
        base=base or Base(),
        on_step=on_step,
    )
    targets = targets_in_use(made)
    if init is None and recorded is not None and not all(target.preserves for target in targets):
        init = recorded.init
    init = chosen_init(targets, init, data is not None)
    origin = replace(made.base, fingerprint=fingerprint(model))
    made = replace(made, base=origin, init=init, inputs=described(inputs))
    replayed = recorded is not None and bool(recorded.converted_paths)
    if not made.converted_paths and not replayed:
        text = "no convolution of this model can be converted; see the reasons in the plan"
        warnings.warn(text, NoEffectWarning, stacklevel=5)
    warn_of_fusing(model, made.converted_paths)
    on_step("rewriting", 0.0)
    converted, made = rewrite_reached(model, inputs, made, seed)
    explained = None
    if init is not None:
        explained = initialize(model, converted, inputs, made, data, seed, on_step)
    equivalence = _prove(model, converted, inputs, made, trials, tolerance, seed, redraw, on_step)
    before = read_plan(Path(earlier)) if isinstance(earlier, (str, Path)) else earlier
    conversion = Conversion(converted, made, equivalence, explained=explained)
    conversion = _with_proof_of_others(model, conversion, inputs, seed, tolerance)
    whole = with_earlier(model, made, before, replayed=replayed)
    known = tensor_digests(model) if whole.base.fingerprint == origin.fingerprint else None
    return replace(conversion, plan=whole, base_tensors=known)


def _prove(
    model: nn.Module,
    converted: nn.Module,
    inputs: Inputs,
    plan: Plan,
    trials: int,
    tolerance: float,
    seed: int,
    redraw: Redraw | None,
    on_step: OnStep,
) -> Equivalence:
    """The proof in the mode of the plan; for train mode, the worse of that and of one trial in eval mode."""
    on_step("proving", 0.0)
    check = partial(prove, model, converted, inputs, paths=plan.converted_paths, tolerance=tolerance, seed=seed)
    equivalence = check(
        trials=trials, mode=plan.mode, redraw=redraw, on_trial=lambda done: on_step("proving", done / trials)
    )
    if plan.mode == "train":
        equivalence = worse_of(equivalence, check(trials=1))
    if equivalence.bit_equal and equivalence.deterministic:
        equivalence = with_gradients(equivalence, model, converted, inputs, plan.converted_paths, seed, plan.mode)
    if not equivalence.bit_equal and plan.converted_paths:
        notes = dict.fromkeys(target.inexact for target in targets_in_use(plan) if target.inexact is not None)
        equivalence = replace(equivalence, note="; ".join(notes) or None)
    return equivalence


def _with_proof_of_others(
    model: nn.Module, made: Conversion, inputs: Inputs, seed: int, tolerance: float
) -> Conversion:
    """``made`` with what is known of the layers that do equal their convolutions, beside others that cannot: each by itself."""
    plan = made.plan
    exact = [s.path for s in plan.sites if s.converts and goal_of(plan, s).target.preserves]
    if made.explained is None or not exact:
        return made
    found = layer_differences(model, made.model, inputs, exact, seed, plan.mode)
    moved = {path: difference for path, difference in found.items() if not difference.within(tolerance)}
    if moved:
        first, difference = next(iter(moved.items()))
        problem = f"{first!r} should equal its convolution and moves by {difference.max_rel:.1e} relative, by itself"
        problems = (*made.explained.problems, problem)
        return replace(made, explained=replace(made.explained, problems=problems))
    how = "to the bit" if all(each.bit_equal for each in found.values()) else f"within {tolerance:g} relative"
    layers = (
        "the other layer equals its convolution"
        if len(found) == 1
        else f"the other {len(found)} layers equal their convolutions"
    )
    notes = [note for note in (made.equivalence.note, f"{layers}, taken alone, {how}") if note]
    return replace(made, equivalence=replace(made.equivalence, note="; ".join(notes)))
