"""The gains that a score learns from data, or a baseline makes up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.data_batches import DataBatch
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.asked import Asked
from saconv_surgeon.planning.candidates import Offered
from saconv_surgeon.planning.scores import baselines
from saconv_surgeon.planning.scores.gains import Gains
from saconv_surgeon.planning.scores.probe import probe
from saconv_surgeon.planning.scores.promise import promise
from saconv_surgeon.records import Plan
from saconv_surgeon.records.progress import OnStep

Loss = Callable[[Any, Any], Tensor]
TrainStep = Callable[[nn.Module, Any], Tensor]


def learnt_gains(
    model: nn.Module,
    plan: Plan,
    offered: Offered,
    asked: Asked,
    batches: Sequence[DataBatch],
    loss: Loss | None,
    step: TrainStep | None,
    on_step: OnStep,
) -> Gains:
    """The gains of every candidate by the score that was asked for; ``model`` is left as it was."""
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
