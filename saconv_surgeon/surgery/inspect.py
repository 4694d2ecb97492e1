"""The story of ``inspect``: run the model once, read its graphs, decide for every convolution. Nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from saconv_surgeon.convs.targets.choices import Choices, choices_in, choices_of, goal_of
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.census.census import Census, take_census
from saconv_surgeon.models.census.followers import add_context
from saconv_surgeon.models.loading.in_memory import check_weights, opened
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.records import Base, ConvSite, Mode, Plan
from saconv_surgeon.records.progress import OnStep, silent
from saconv_surgeon.surgery.decisions import Selection, plan_sites, replay
from saconv_surgeon.surgery.earlier import is_made_so
from saconv_surgeon.surgery.eligibility import Eligibility


@with_room
def make_plan(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: str = "saconv",
    selection: Selection = Selection(),  # noqa: B008 - frozen
    recorded: Plan | None = None,
    mode: Mode = "eval",
    base: Base = Base(),  # noqa: B008 - frozen
    on_step: OnStep = silent,
) -> Plan:
    """A decision for each convolution of ``model``: the one in ``recorded`` if that is given, otherwise by ``selection``.

    Raises:
        UsageError: A pattern matches nothing, there is no such target, it does not have an option, or ``recorded`` does not fit.
        ModelError: ``model`` is not a module, or has no weights.
    """
    model, inputs = opened(model, example_inputs)
    census, sites = look(model, inputs, mode, on_step)
    choices = choices_of(target, selection.options) if recorded is None else choices_in(recorded)
    if recorded is not None:
        selection = Selection(absorb=any(goal.target.absorbs for goal in choices.goals))
    elif selection.absorb:
        _check_absorbs(choices)
    wanted = selection.absorb or any(goal.target.norm_inside for goal in choices.goals)
    absorbs = wanted if recorded is None else any(site.absorbs for site in recorded.sites)
    made = plan_sites(
        model,
        sites,
        census,
        choices,
        selection=selection,
        image_size=inputs.image_size,
        base=base,
        in_training=sites_in_training(model, inputs) if absorbs and mode == "eval" else (),
    )
    made = replace(made, mode=mode)
    if recorded is None:
        return made
    eligibility = Eligibility(model, census)
    return replay(
        recorded,
        made,
        lambda site: eligibility.why_not(site, goal_of(made, site), allow_depthwise=True),
        lambda choice: is_made_so(model, recorded, choice),
    )


def _check_absorbs(choices: Choices) -> None:
    if not any(goal.target.absorbs for goal in choices.goals):
        raise UsageError(f"the target {choices.name!r} has no norm and activation of its own; leave --absorb out")


def look(model: nn.Module, inputs: Inputs, mode: Mode, on_step: OnStep) -> tuple[Census, tuple[ConvSite, ...]]:
    """The census of ``model``, and every convolution with what follows it."""
    check_weights(model)
    on_step("looking", 0.0)
    census = take_census(model, inputs, mode)
    on_step("tracing", 0.5)
    return census, add_context(model, census, mode)


def sites_in_training(model: nn.Module, inputs: Inputs) -> tuple[ConvSite, ...]:
    """What follows each convolution in training, in which other parts may read it; empty if the model cannot be run so."""
    try:
        return add_context(model, take_census(model, inputs, "train"), "train")
    except Exception:  # a norm refuses a batch of one, or a loss lacks its targets
        return ()
