"""The story of ``--score probe``: everything is converted in a copy and trained for a few steps, and every step is shared out.

The gain of a part is how much its own steps lowered the loss of batches that these steps were not made from: after each step,
minus the product of what the part's parameters moved with their gradient on the next batch (to first order that is the change of
that batch's loss). All parts train together, so overlapping ones share what they gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.errors import SurgeonError, UserCodeError, first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.planning.scores.batch_losses import BatchLosses, Loss, at_least_two, checked
from saconv_surgeon.planning.scores.candidate_parts import SWITCHABLE, halves_of
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.planning.scores.shared_training import WHOLE, SharedTraining
from saconv_surgeon.planning.scores.watching import NOT_REACHED
from saconv_surgeon.records import Plan
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.records.progress import OnStep, silent
from saconv_surgeon.surgery.rewriting import apply

STEPS = 40
STEP = "probing"
UNIT = "loss"
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
    weight_decay: float = 0.0,
    steps: int = STEPS,
    rounds: int = 1,
    seed: int = 0,
    on_step: OnStep = silent,
) -> SumOfGains:
    """What every candidate gained in a short training of all of them together. ``model`` is left as it was.

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
        weight_decay: Of the old parameters.
        steps: In all rounds together.
        rounds: After each but the last, the worse half of what is left is taken out, and the rest starts anew.
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
    gains: dict[tuple[str, str], float] = {}
    kept: set[tuple[str, str]] | None = None
    each = max(2, steps // rounds)
    for i in range(rounds):
        training = SharedTraining(
            _converted(original, plan, probed), tuple(probed), kept, lr, lr * new_lr, weight_decay
        )
        losses = BatchLosses(original, training.model, loss, inputs_of)
        compute = losses if step is None else partial(_loss_of_step, step, training.model)
        with preserved(original), torch.enable_grad():
            seed_all(seed + i)
            for t in range(i * each, (i + 1) * each):
                on_step(STEP, t / (rounds * each))
                training.step(compute(found[t % len(found)]))
        gains |= _below(gains, training.gains)
        ranked = sorted(training.gains, key=lambda key: training.gains[key], reverse=True)
        kept = set(ranked[: (len(ranked) + 1) // 2])
    on_step(STEP, 1.0)
    return _sum_of_gains(plan, candidates, probed, gains)


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


def _below(before: Mapping[Any, float], now: Mapping[Any, float]) -> dict[Any, float]:
    """``now``, and what was taken out before it, at most as good as the worst that was left."""
    worst = min(now.values(), default=0.0)
    return {key: min(gain, worst) for key, gain in before.items()} | dict(now)


def _probed(offered: Sequence[Candidate]) -> Candidate | None:
    """What a layer is trained as: the whole of the first switchable target that it is offered, otherwise the first target that
    starts from the convolution.
    """
    switchable = [c for c in offered if c.target in SWITCHABLE]
    if switchable:
        first = switchable[0]
        parts = {c.options.get("parts", "all") for c in switchable if c.target == first.target}
        options = {name: value for name, value in first.options.items() if name != "parts"}
        only = next(iter(parts)) if len(parts) == 1 else "all"
        return replace(first, options=options if only == "all" else {**options, "parts": only})
    return next((c for c in offered if find_target(c.target).preserves), None)


def _sum_of_gains(
    plan: Plan,
    candidates: Mapping[str, Sequence[Candidate]],
    probed: Mapping[str, Candidate],
    gains: Mapping[tuple[str, str], float],
) -> SumOfGains:
    sites = {site.path: site for site in plan.sites}
    known: dict[str, dict[str, float]] = {path: {} for path in candidates}
    reasons: dict[str, dict[str, str]] = {path: {} for path in candidates}
    for path, offered in candidates.items():
        for candidate in offered:
            parts, why = halves_of(candidate, sites.get(path))
            same = path in probed and candidate.target == probed[path].target
            if parts is None and same:
                parts = (WHOLE,)
            if parts is None or (parts and not same):
                reasons[path][candidate.name] = why if parts is None and why and path not in probed else OTHER_PROBED
            elif not all((path, part) in gains for part in parts):
                reasons[path][candidate.name] = NOT_REACHED
            else:
                known[path][candidate.name] = sum((gains[path, part] for part in parts), 0.0)
    return SumOfGains("probe", UNIT, known, reasons)
