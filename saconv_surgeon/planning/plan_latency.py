"""How long a model takes that was converted by a plan and folded, beside the original."""

from __future__ import annotations

from torch import nn

from saconv_surgeon.folding.fold import fold_reached
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.paired_clock import PairedClock
from saconv_surgeon.planning.variants import move
from saconv_surgeon.records import LatencyRatio, Plan
from saconv_surgeon.surgery.rewriting import apply


def plan_latency(model: nn.Module, inputs: Inputs, plan: Plan, seed: int = 0) -> LatencyRatio:
    """The paired ratio of the folded model to ``model``, which is left as it was, with moved parameters, as after a training.

    Raises:
        ArtefactError: The plan does not fit the model.
    """
    converted = apply(model, plan)
    move(converted, seed)
    folded = fold_reached(converted, inputs, fold_norms=False, seed=seed).model
    return PairedClock(model, inputs).pairs(folded, "latency").ratio
