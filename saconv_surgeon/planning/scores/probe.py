"""The story of ``--score probe``: everything is converted in a copy and trained for a few steps; what moved most is worth most.

The gain of a part is how far it moves the output of its layer in the end, relative to the plain convolution's: the contexts
against the layer without them, the branches against the plain convolution. Gains add up; overlapping parts have trained together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import SurgeonError, UserCodeError, first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.planning.scores.batch_losses import BatchLosses, Loss, at_least_two, checked
from saconv_surgeon.planning.scores.candidate_parts import SWITCHABLE, halves_of
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.planning.scores.short_training import Key, ShortTraining, watching
from saconv_surgeon.planning.scores.watching import NOT_REACHED
from saconv_surgeon.records import Plan
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.records.progress import OnStep, silent
from saconv_surgeon.surgery.rewriting import apply

STEPS = 40
WATCHED = 4
"""The last steps, in which the outputs are compared."""
STEP = "probing"
UNIT = "share of the output moved"
OTHER_PROBED = "the probe trained this layer as another target; list this target alone to probe it"

TrainStep = Callable[[nn.Module, Any], Tensor]
"""``step(model, batch)``: the loss of a batch as in training; backward pass and optimiser are the probe's."""


def probe(
    model: nn.Module,
    plan: Plan,
    candidates: Mapping[str, Sequence[Candidate]],
    batches: Iterable[Any],
    loss: Loss,
    inputs_of: Callable[[Any], Inputs],
    *,
    step: TrainStep | None = None,
    lr: float = 1e-3,
    new_lr: float = 3.0,
    steps: int = STEPS,
    rounds: int = 1,
    seed: int = 0,
    on_step: OnStep = silent,
) -> SumOfGains:
    """How far the parts of every candidate move the outputs, after a short training of all of them. ``model`` is left as it was.

    Args:
        model: The model before surgery.
        plan: All its sites.
        candidates: By path, what the layer may become.
        batches: At least two; they are gone through again if there are fewer than steps.
        loss: ``loss(output, batch)``, a scalar.
        inputs_of: What the model is run on, of a batch.
        step: The loss as the user's own training computes it, in train mode; instead of ``loss``.
        lr: Of the parameters that the model has already.
        new_lr: The rate of the new ones divided by ``lr``.
        steps: In all rounds together.
        rounds: After each but the last, the worse half of the parts is taken out, and the rest starts anew.
        seed: Of what the training draws.
        on_step: Called after every step.

    Raises:
        UsageError: There is one batch; the loss is no scalar, is not finite, or depends on no layer.
        UserCodeError: The loss or the step raised.
        ModelError: The model cannot be copied or run.
    """
    found = at_least_two(batches)
    original = unwrapped(model)
    probed = {path: chosen for path, offered in candidates.items() if (chosen := _probed(offered)) is not None}
    gains: dict[Key, float] = {}
    kept: set[Key] | None = None
    each = max(2, steps // rounds)
    for i in range(rounds):
        training = ShortTraining(_converted(original, plan, probed), probed, kept, each, (lr, lr * new_lr))
        losses = BatchLosses(original, training.model, loss, inputs_of)
        compute = losses if step is None else partial(_loss_of_step, step, training.model)
        with preserved(original), torch.enable_grad(), ExitStack() as stack:
            seed_all(seed + i)
            moved = None
            for t in range(each):
                on_step(STEP, (i + t / each) / rounds)
                if t == max(each - WATCHED, 1):
                    moved = stack.enter_context(watching(training.layers))
                training.step(compute(found[(i * each + t) % len(found)]))
        assert moved is not None
        now = {key: moved[key[0]].share(key[1]) for key in training.parts if key in training.reached}
        gains = _below(gains, now)
        ranked = sorted(now, key=lambda key: now[key], reverse=True)
        kept = set(ranked[: (len(ranked) + 1) // 2])
    on_step(STEP, 1.0)
    return _sum_of_gains(plan, candidates, probed, gains)


def _below(before: Mapping[Key, float], now: Mapping[Key, float]) -> dict[Key, float]:
    """``now``, and what was taken out before it, at most as good as the worst that was left."""
    worst = min(now.values(), default=0.0)
    return {key: min(gain, worst) for key, gain in before.items()} | dict(now)


def _probed(offered: Sequence[Candidate]) -> Candidate | None:
    """What a layer is trained as: the first switchable target that it is offered, whole unless only one half of it is offered."""
    switchable = [c for c in offered if c.target in SWITCHABLE]
    if not switchable:
        return None
    first = switchable[0]
    parts = {c.options.get("parts", "all") for c in switchable if c.target == first.target}
    options = {name: value for name, value in first.options.items() if name != "parts"}
    only = next(iter(parts)) if len(parts) == 1 else "all"
    return replace(first, options=options if only == "all" else {**options, "parts": only})


def _converted(model: nn.Module, plan: Plan, probed: Mapping[str, Candidate]) -> nn.Module:
    """A copy in which every layer is what it is probed as; one rewriting for each kind."""
    kinds: dict[tuple[str, tuple[tuple[str, str], ...]], set[str]] = {}
    for path, candidate in probed.items():
        kinds.setdefault((candidate.target, tuple(sorted(candidate.options.items()))), set()).add(path)
    for (target, options), paths in kinds.items():
        sites = tuple(
            replace(site, decision="convert", target=None, options=None, absorbs={})
            for site in plan.sites
            if site.path in paths
        )
        model = apply(model, replace(plan, target=target, options=dict(options), sites=sites, init=None))
    return model


def _loss_of_step(step: TrainStep, model: nn.Module, batch: Any) -> Tensor:
    model.train()
    try:
        found = step(model, batch)
    except SurgeonError:
        raise
    except Exception as error:
        raise UserCodeError(f"the training step raised {type(error).__name__}: {first_line(error)}") from error
    return checked(found)


def _sum_of_gains(
    plan: Plan,
    candidates: Mapping[str, Sequence[Candidate]],
    probed: Mapping[str, Candidate],
    gains: Mapping[Key, float],
) -> SumOfGains:
    sites = {site.path: site for site in plan.sites}
    known: dict[str, dict[str, float]] = {path: {} for path in candidates}
    reasons: dict[str, dict[str, str]] = {path: {} for path in candidates}
    for path, offered in candidates.items():
        for candidate in offered:
            parts, why = halves_of(candidate, sites.get(path))
            if parts is None:
                reasons[path][candidate.name] = why or ""
            elif parts and candidate.target != probed[path].target:
                reasons[path][candidate.name] = OTHER_PROBED
            elif not all((path, part) in gains for part in parts):
                reasons[path][candidate.name] = NOT_REACHED
            else:
                known[path][candidate.name] = sum((gains[path, part] for part in parts), 0.0)
    return SumOfGains("probe", UNIT, known, reasons)
