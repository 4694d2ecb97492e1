"""The story of ``plan``: offer, score, price, choose for the budgets, time what was chosen, and choose again until it holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.running.data_batches import DataBatch, data_batches
from saconv_surgeon.models.running.described_inputs import described
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.tree.fingerprint import fingerprint
from saconv_surgeon.planning.answers import answer_untimed, curve_of, everything_of, layers_of
from saconv_surgeon.planning.asked import NEED_DATA, Asked, check_needs
from saconv_surgeon.planning.candidates import Offered, candidates_of_targets, offer, with_choices, without
from saconv_surgeon.planning.figures import Measuring
from saconv_surgeon.planning.learnt_gains import Loss, TrainStep, learnt_gains
from saconv_surgeon.planning.paired_clock import PairedClock
from saconv_surgeon.planning.plan_problem import Priced
from saconv_surgeon.planning.prices_for_budgets import priced_for
from saconv_surgeon.planning.saved_scores import SavedScores, Subject, read_scores
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.scores.prior import DrawnToPrior
from saconv_surgeon.planning.timed_promise import Answer, solve_promised
from saconv_surgeon.planning.variants import Variants
from saconv_surgeon.profiling.environment import conditions
from saconv_surgeon.profiling.profile import device_of
from saconv_surgeon.profiling.timing.time_models import threads
from saconv_surgeon.records import Plan, Timing
from saconv_surgeon.records.budgeted_plan import BudgetedPlan
from saconv_surgeon.records.progress import OnStep
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE
from saconv_surgeon.surgery.reached_layers import rewrite_reached

NOTHING = "no convolution of this model can be converted; see the reasons in the plan"


@dataclass
class _Clock:
    """How long each step took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


@dataclass(frozen=True)
class Material:
    """What gains are learnt from: batches, a loss, a training step. What a score does not need may be missing."""

    data: Iterable[Any] | None = None
    loss: Loss | None = None
    step: TrainStep | None = None


def plan_model(
    model: nn.Module, example_inputs: Any | None, asked: Asked, material: Material, on_step: OnStep
) -> BudgetedPlan:
    """See :func:`saconv_surgeon.plan`."""
    with threads(None if asked.timing is None else asked.timing.threads):
        check_needs(asked, material.data, material.loss, material.step)
        clock = _Clock()
        model, inputs, batches = _opened(model, example_inputs, material.data)
        with clock.step("looking"):
            on_step("looking", 0.0)
            offered, plan = _offered(model, inputs, asked)
        if not offered.candidates:
            nothing = with_choices(plan, {})
            return BudgetedPlan(nothing, asked.score, "", asked.budgets, (), notes=(NOTHING,), seconds=clock.seconds)
        saved = _saved(asked, inputs, offered, model)
        with clock.step("scoring"):
            score = saved.gains or learnt_gains(
                model, plan, offered, asked, batches, material.loss, material.step, on_step
            )
        saved = _kept(asked, replace(saved, gains=score))
        gains: Gains = score
        if asked.score in NEED_DATA:
            gains = DrawnToPrior.of_candidates(score, offered.candidates)
        variants = Variants(model, inputs, offered, asked.seed)
        measuring = Measuring(variants, PairedClock(model, inputs, draw_s=(asked.timing or Timing()).budget_s / 2))
        with clock.step("pricing"):
            priced, saved = priced_for(asked, variants, measuring, saved, on_step)
        _kept(asked, saved)
        with clock.step("choosing"):
            if asked.timing is None and priced.calibrations:
                answer = answer_untimed(priced, gains)
            else:
                answer = solve_promised(priced, gains, measuring, on_step=on_step)
        return _told(asked, plan, offered, gains, priced, answer, clock)


def _offered(model: nn.Module, inputs: Inputs, asked: Asked) -> tuple[Offered, Plan]:
    """What each layer may become, and the plan of nothing, which says what the model is run on."""
    candidates = candidates_of_targets(asked.targets, asked.selection.options)
    base = replace(asked.base, fingerprint=fingerprint(model))
    offered = offer(model, inputs, candidates, selection=asked.selection, mode=asked.mode, base=base)
    offered = _reached(model, inputs, offered, asked)
    return offered, replace(offered.plan, inputs=described(inputs))


def _told(
    asked: Asked, plan: Plan, offered: Offered, gains: Gains, priced: Priced, answer: Answer, clock: _Clock
) -> BudgetedPlan:
    chosen = {path: next(c for c in offered.candidates[path] if c.name == n) for path, n in answer.chosen.items()}
    with clock.step("curve"):
        priced = replace(priced, calibrations=answer.calibrations or priced.calibrations)
        points = curve_of(priced, gains, answer.chosen)
    return BudgetedPlan(
        with_choices(plan, chosen),
        asked.score,
        gains.unit,
        asked.budgets,
        layers_of(offered, gains, priced, answer.chosen),
        gains.of(answer.chosen) if answer.chosen else 0.0,
        everything_of(offered, gains),
        answer.promises,
        answer.rounds,
        points,
        asked.budgets[0].figure,
        clock.seconds,
    )


def _opened(
    model: nn.Module, example_inputs: Any | None, data: Iterable[Any] | None
) -> tuple[nn.Module, Inputs, list[DataBatch]]:
    """The module, what it is run on, and batches of the data; without example inputs, the first batch."""
    if example_inputs is not None:
        model, inputs = opened(model, example_inputs)
        return model, inputs, [] if data is None else data_batches(data, inputs, model)
    if data is None:
        raise UsageError("nothing says what the model is run on; give example inputs, or data")
    module, _ = opened(model, ())
    batches = data_batches(data, None, module)
    return module, batches[0].inputs, batches


def _reached(model: nn.Module, inputs: Inputs, offered: Offered, asked: Asked) -> Offered:
    """Without layers that cannot be replaced, as a trial of all of them shows."""
    if not offered.candidates:
        return offered
    trial = with_choices(offered.plan, {path: own[0] for path, own in offered.candidates.items()})
    _, found = rewrite_reached(model, inputs, trial, asked.seed)
    left = set(found.converted_paths)
    for site in found.sites:
        if site.path in offered.candidates and site.path not in left:
            reason = replace(HELD_OUTSIDE, code=site.reason_code or "", text=site.reason or "")
            offered = without(offered, [site.path], reason)
    return offered


def _saved(asked: Asked, inputs: Inputs, offered: Offered, model: nn.Module) -> SavedScores:
    timing = asked.timing or Timing()
    device = device_of(model)
    settings = f"{conditions(device)['device_name']}, {timing.threads or torch.get_num_threads()} threads"
    subject = Subject(
        offered.plan.base.fingerprint or "",
        inputs.shapes,
        {path: tuple(c.name for c in own) for path, own in offered.candidates.items()},
        asked.score,
        asked.seed,
        settings,
    )
    return SavedScores(subject) if asked.scores_file is None else read_scores(asked.scores_file, subject)


def _kept(asked: Asked, saved: SavedScores) -> SavedScores:
    """Written to the user's file as soon as there is more of it, so that an interruption loses little."""
    if asked.scores_file is not None:
        saved.write(asked.scores_file)
    return saved
