"""The story of ``plan``: offer, score, price, choose for the budgets, time what was chosen, and choose again until it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.running.data_batches import DataBatch, data_batches
from saconv_surgeon.models.running.described_inputs import described
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.tree.fingerprint import fingerprint
from saconv_surgeon.planning.answers import answer_untimed, curve_of, everything_of, layers_of
from saconv_surgeon.planning.budgets import TIMED, parse_budget
from saconv_surgeon.planning.candidates import Offered, candidates_of_targets, offer, with_choices, without
from saconv_surgeon.planning.figures import PRICES, Measuring, wanted_for
from saconv_surgeon.planning.paired_clock import PairedClock
from saconv_surgeon.planning.prices import counted_price, price_candidates
from saconv_surgeon.planning.saved_scores import SavedScores, Subject, read_scores
from saconv_surgeon.planning.scores import baselines
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.scores.prior import DrawnToPrior
from saconv_surgeon.planning.scores.probe import probe
from saconv_surgeon.planning.scores.promise import promise
from saconv_surgeon.planning.timed_promise import Answer, Priced, WholeTimer, solve_promised
from saconv_surgeon.planning.variants import Variants
from saconv_surgeon.profiling.environment import conditions
from saconv_surgeon.profiling.profile import device_of
from saconv_surgeon.profiling.timing.time_models import threads
from saconv_surgeon.records import Base, Mode, Plan, Timing
from saconv_surgeon.records.budgeted_plan import Budget, BudgetedPlan, Price, ScoreName
from saconv_surgeon.records.progress import OnStep
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE
from saconv_surgeon.surgery.reached_layers import rewrite_reached

Loss = Callable[[Any, Any], Tensor]
TrainStep = Callable[[nn.Module, Any], Tensor]
DEFAULT_SCORE: ScoreName = "promise"
NEED_DATA = ("promise", "probe")
"""Scores that look at data."""
LAYERS_SHARE = 5.0
"""How much longer than one model all layers and candidates together are timed."""
NOTHING = "no convolution of this model can be converted; see the reasons in the plan"


@dataclass(frozen=True)
class Asked:
    """What the user wants: see :func:`saconv_surgeon.plan`."""

    budgets: tuple[Budget, ...]
    targets: tuple[str, ...]
    selection: Selection
    score: ScoreName
    scores_file: Path | None
    timing: Timing | None
    seed: int
    mode: Mode
    base: Base

    @classmethod
    def of(cls, budgets: str | Iterable[str], score: ScoreName | None, **rest: Any) -> Asked:
        """With budgets as they are written.

        Raises:
            UsageError: One is no budget, or there is none.
        """
        written = (budgets,) if isinstance(budgets, str) else tuple(budgets)
        if not written:
            raise UsageError('for which budget? give one, such as "latency<1.3x" or "parameters<+2M"')
        return cls(tuple(map(parse_budget, written)), score=score or DEFAULT_SCORE, **rest)


@dataclass
class _Clock:
    """How long each step took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def plan_model(
    model: nn.Module,
    example_inputs: Any | None,
    asked: Asked,
    *,
    data: Iterable[Any] | None,
    loss: Loss | None,
    step: TrainStep | None,
    on_step: OnStep,
) -> BudgetedPlan:
    """See :func:`saconv_surgeon.plan`."""
    with threads(None if asked.timing is None else asked.timing.threads):
        return _plan(model, example_inputs, asked, data=data, loss=loss, step=step, on_step=on_step)


def _plan(
    model: nn.Module,
    example_inputs: Any | None,
    asked: Asked,
    *,
    data: Iterable[Any] | None,
    loss: Loss | None,
    step: TrainStep | None,
    on_step: OnStep,
) -> BudgetedPlan:
    _check_needs(asked, data, loss, step)
    clock = _Clock()
    model, inputs, batches = _opened(model, example_inputs, data)
    with clock.step("looking"):
        on_step("looking", 0.0)
        candidates = candidates_of_targets(asked.targets, asked.selection.options)
        base = replace(asked.base, fingerprint=fingerprint(model))
        offered = _reached(
            model,
            inputs,
            offer(model, inputs, candidates, selection=asked.selection, mode=asked.mode, base=base),
            asked,
        )
    plan = replace(offered.plan, inputs=described(inputs))
    if not offered.candidates:
        nothing = with_choices(plan, {})
        return BudgetedPlan(nothing, asked.score, "", asked.budgets, (), notes=(NOTHING,), seconds=clock.seconds)
    saved = _saved(asked, base, inputs, offered, model)
    with clock.step("scoring"):
        score = saved.gains or _gains(model, plan, offered, asked, batches, loss, step, on_step)
    saved = _kept(asked, replace(saved, gains=score))
    gains: Gains = score
    if asked.score in NEED_DATA:
        gains = DrawnToPrior.of_candidates(score, offered.candidates)
    variants = Variants(model, inputs, offered, asked.seed)
    measuring = Measuring(variants, _paired_clock(model, inputs, asked))
    with clock.step("pricing"):
        priced, saved = _priced(asked, variants, measuring, saved, on_step)
    saved = _kept(asked, saved)
    with clock.step("choosing"):
        if asked.timing is None and priced.calibrations:
            answer = answer_untimed(priced, gains)
        else:
            answer = solve_promised(priced, gains, measuring, on_step=on_step)
    return _told(asked, plan, offered, gains, priced, answer, clock)


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


def _check_needs(asked: Asked, data: Any, loss: Any, step: Any) -> None:
    if asked.score in NEED_DATA and data is None:
        raise UsageError(
            f"the score {asked.score!r} learns from data; give batches (--data) and a loss (--loss), or take one of the "
            "baselines: depth, random, stages"
        )
    if asked.score == "promise" and loss is None:
        raise UsageError("the score 'promise' needs a loss; give --loss file.py:loss, a function loss(output, batch)")
    if asked.score == "probe" and loss is None and step is None:
        raise UsageError("the score 'probe' trains; give a loss (--loss) or a training step (--step)")


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


def _saved(asked: Asked, base: Base, inputs: Inputs, offered: Offered, model: nn.Module) -> SavedScores:
    timing = asked.timing or Timing()
    device = device_of(model)
    settings = f"{conditions(device)['device_name']}, {timing.threads or torch.get_num_threads()} threads"
    subject = Subject(
        base.fingerprint or "",
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


def _gains(
    model: nn.Module,
    plan: Plan,
    offered: Offered,
    asked: Asked,
    batches: Sequence[DataBatch],
    loss: Loss | None,
    step: TrainStep | None,
    on_step: OnStep,
) -> Gains:
    if asked.score == "depth":
        return baselines.depth(plan, offered.candidates)
    if asked.score == "random":
        return baselines.random(plan, offered.candidates, seed=asked.seed)
    if asked.score == "stages":
        return baselines.stages(plan, offered.candidates)
    given = [batch.given for batch in batches]
    inputs = {id(batch.given): batch.inputs for batch in batches}

    def inputs_of(batch: Any) -> Inputs:
        return inputs[id(batch)]

    def no_loss(output: Any, batch: Any) -> Tensor:
        raise UsageError("the score needs a loss")

    if asked.score == "promise":
        return promise(
            model, plan, offered.candidates, given, loss or no_loss, inputs_of, seed=asked.seed, on_step=on_step
        )
    return probe(
        model, plan, offered.candidates, given, loss or no_loss, inputs_of, step=step, seed=asked.seed, on_step=on_step
    )


def _paired_clock(model: nn.Module, inputs: Inputs, asked: Asked) -> PairedClock:
    timing = asked.timing or Timing()
    return PairedClock(model, inputs, draw_s=timing.budget_s / 2)


def _priced(
    asked: Asked, variants: Variants, measuring: Measuring, saved: SavedScores, on_step: OnStep
) -> tuple[Priced, SavedScores]:
    """Prices from the file if they have every figure that the budgets are about; otherwise measured."""
    figures = {budget.figure for budget in asked.budgets}
    timed = sorted(figures & set(TIMED))
    if saved.prices is not None and _knows(saved, figures, timed):
        measuring.originals |= {figure: float(saved.extra["originals"][figure]) for figure in timed}
        priced = Priced.of(saved.prices, asked.budgets, measuring)
        return priced.with_factors(saved.extra["factors"], saved.extra["offsets"]), saved
    if asked.timing is None and timed:
        raise UsageError(
            f"{asked.budgets[0].text} is about time, and time is not to be measured; leave --no-latency out, or give --scores "
            "FILE with the prices of an earlier plan"
        )
    if asked.timing is None:
        sites = {site.path: site for site in variants.offered.plan.sites}
        own = variants.offered.candidates
        counted = {path: {c.name: counted_price(sites[path], c) for c in offers} for path, offers in own.items()}
        return Priced.of(counted, asked.budgets, measuring), saved
    whole = WholeTimer(measuring, asked.budgets)
    for figure in timed:
        measuring.original(figure)
    seconds = LAYERS_SHARE * asked.timing.budget_s
    wanted = wanted_for(asked.budgets)
    prices = price_candidates(variants, wanted, budget_s=seconds, on_whole=whole, on_step=on_step)
    priced = Priced.of(prices, asked.budgets, measuring).calibrated(whole.timings)
    extra = {
        "originals": {figure: measuring.original(figure) for figure in timed},
        "factors": {figure: dict(c.factors) for figure, c in priced.calibrations.items()},
        "offsets": {figure: dict(c.offsets) for figure, c in priced.calibrations.items()},
    }
    return priced, replace(saved, prices=prices, extra=extra)


def _knows(saved: SavedScores, figures: Iterable[str], timed: Sequence[str]) -> bool:
    prices: Mapping[str, Mapping[str, Price]] = saved.prices or {}
    known = all(figure in saved.extra.get("originals", {}) for figure in timed)
    return known and all(
        any(PRICES[figure](price) is not None for own in prices.values() for price in own.values())
        for figure in figures
    )
