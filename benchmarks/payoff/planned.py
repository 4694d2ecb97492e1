"""What ``plan`` chooses at a quarter of the price by different scores, all by the same prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from benchmarks.payoff.arms import Situation
from benchmarks.payoff.pictures import Pictures
from benchmarks.payoff.scorers import SCORERS
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.candidates import candidates_of_targets, offer
from saconv_surgeon.planning.choosing import Problem, choose
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.scores.prior import DrawnToPrior
from saconv_surgeon.records.budgeted_plan import Candidate

BATCHES = 16
Costs = Mapping[str, Mapping[str, float]]
Budget = Callable[[Costs], float]


def planned(name: str, s: Situation, costs: Costs, most: float) -> dict[str, str]:
    """By path, the name of the candidate that gains most within ``most`` seconds.

    ``name`` is one of ``SCORERS``; ``plan`` and ``plan-probe`` are promise and probe drawn to the prior, as ``plan`` does;
    ``prior`` is that alone.
    """
    example = Inputs.of(s.task.example())
    offered = offer(s.model, example, candidates_of_targets(["saconv"]))
    scorer = {"plan": "promise", "plan-probe": "probe", "prior": "promise"}.get(name, name)
    batches = list(islice(s.task.pictures(s.seed, test=False).split(s.task.batch), BATCHES))
    torch.manual_seed(s.seed)
    gains = SCORERS[scorer](
        s.model, offered.plan, offered.candidates, batches, s.task.output_loss, _inputs, seed=s.seed
    )
    if name in ("plan", "plan-probe", "prior"):
        gains = _drawn(gains, offered.candidates, alone=name == "prior")
    loads = {path: {each: (seconds,) for each, seconds in own.items()} for path, own in costs.items()}
    return choose(Problem(loads, (most,)), gains)


def _drawn(gains: Gains, candidates: Mapping[str, Sequence[Candidate]], *, alone: bool) -> Gains:
    drawn = DrawnToPrior.of_candidates(gains, candidates)
    return replace(drawn, weight=1.0) if alone else drawn


def _inputs(batch: Pictures) -> Inputs:
    images: Tensor | Any = batch.inputs()
    return Inputs.of(images)
