"""Rewriting a model, and leaving alone what turns out not to be called through its module tree."""

from __future__ import annotations

from torch import nn

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.running.borrowed import own_tensors_only
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved_randomness, seed_all
from saconv_surgeon.records import Plan
from saconv_surgeon.surgery.decisions import refuse
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE, USED_OTHERWISE
from saconv_surgeon.surgery.equivalence import unreached
from saconv_surgeon.surgery.rewriting import apply


def rewrite_reached(model: nn.Module, inputs: Inputs, plan: Plan, seed: int) -> tuple[nn.Module, Plan]:
    """Applies ``plan``. Layers that turn out not to be called are refused, and the original is rewritten again without them."""
    calls = {site.path: site.calls for site in plan.sites if site.converts}

    def rewritten(plan: Plan) -> nn.Module:
        with preserved_randomness():
            seed_all(seed)  # for layers with random weights
            return apply(model, plan)

    def lost_in(converted: nn.Module) -> tuple[str, ...]:
        with own_tensors_only(model, converted):
            return unreached(converted, inputs, calls, plan.mode)

    converted = rewritten(plan)
    try:
        lost = lost_in(converted)
    except ModelError:
        raise
    except Exception as error:
        others = [path for path in calls if type(model.get_submodule(path)) is not nn.Conv2d]
        if others:  # the model uses more of their classes than a call
            return rewrite_reached(model, inputs, refuse(plan, others, USED_OTHERWISE), seed)
        raise ModelError(
            f"the converted {type(model).__name__} cannot be run, although the original can ({type(error).__name__}: "
            f"{first_line(error)}); does it look for nn.Conv2d among its modules? Leave such layers out with exclude"
        ) from error
    if not lost:
        return converted, plan
    plan = refuse(plan, lost, HELD_OUTSIDE)
    return rewritten(plan), plan
