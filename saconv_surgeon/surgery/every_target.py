"""``inspect --to all``: what every target would be for every convolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from torch import nn

from saconv_surgeon.convs.targets.choices import choices_of
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.known_targets import TARGETS, find_target, offered_targets
from saconv_surgeon.convs.targets.target import Cost, Target
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.records import Mode, PlannedSite
from saconv_surgeon.records.progress import OnStep, silent
from saconv_surgeon.records.target_choice import SiteOffers, Start, TargetChoice, TargetOffer, TargetSummary
from saconv_surgeon.surgery.decisions import Selection, plan_sites
from saconv_surgeon.surgery.inspect import look, sites_in_training


@with_room
def every_target(
    model: nn.Module,
    inputs: Inputs | Any,
    *,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    mode: Mode = "eval",
    on_step: OnStep = silent,
) -> TargetChoice:
    """One row for each convolution, one offer in it for each target of this package and of others. Nothing is changed.

    ``selection`` leaves convolutions out, as it does for a conversion. Its options go to the targets that have them.

    Raises:
        UsageError: A pattern matches nothing, or no target has an option.
    """
    model, inputs = opened(model, inputs)
    targets = [*TARGETS.values(), *(find_target(name) for name in offered_targets())]
    unknown = [name for name in selection.options if not any(name in target.options for target in targets)]
    if unknown:
        raise UsageError(f"no target has an option {unknown[0]!r}")
    census, sites = look(model, inputs, mode, on_step)
    in_training = sites_in_training(model, inputs) if mode == "eval" else ()
    plans = []
    for target in targets:
        own = {name: text for name, text in selection.options.items() if name in target.options}
        fitting = replace(selection, options=own, absorb=selection.absorb and target.absorbs)
        size = inputs.image_size
        choices = choices_of(target.name, own)
        plans.append(
            plan_sites(model, sites, census, choices, selection=fitting, image_size=size, in_training=in_training)
        )
    goals = [Goal.of(plan.target, plan.options) for plan in plans]
    rows = tuple(
        SiteOffers(
            found[0].path,
            found[0].arguments,
            _own_macs(found[0]),
            tuple(_offer(goal, site) for goal, site in zip(goals, found, strict=True)),
        )
        for found in zip(*(plan.sites for plan in plans), strict=True)
    )
    summaries = tuple(_summary(target, [row.offers[i] for row in rows]) for i, target in enumerate(targets))
    return TargetChoice(summaries, rows, dict(selection.options))


def _own_macs(site: PlannedSite) -> int | None:
    a = site.arguments
    if a is None or not site.shapes:
        return None
    taps = prod(a.kernel_size) * a.in_channels // a.groups
    return sum(shape.calls * prod(shape.output) * taps for shape in site.shapes)


def _offer(goal: Goal, site: PlannedSite) -> TargetOffer:
    name = goal.target.name
    if not site.converts or site.arguments is None:
        return TargetOffer(name, site.reason or "refused")
    folded: Cost | None = None
    if goal.target.after_folding is not None:
        folded = goal.target.after_folding(site.arguments, site.shapes, {**goal.options, "allow_depthwise": True})
    return TargetOffer(
        name,
        None,
        site.added_parameters,
        site.added_macs,
        None if folded is None else folded.parameters,
        None if folded is None else folded.macs,
    )


def _summary(target: Target, offers: Sequence[TargetOffer]) -> TargetSummary:
    fitting = [offer for offer in offers if offer.reason is None]
    start: Start = "equal to the bit"
    if target.inexact is not None:
        start = "equal up to rounding"
    if not target.preserves:
        start = "not equal"
    return TargetSummary(
        target.name,
        target.summary,
        start,
        len(fitting),
        sum(offer.parameters or 0 for offer in fitting),
        sum(offer.macs or 0 for offer in fitting),
        _total(offer.folded_parameters for offer in fitting),
        _total(offer.folded_macs for offer in fitting),
    )


def _total(figures: Iterable[int | None]) -> int | None:
    """The sum; None if one is not known, or if there are none."""
    known = list(figures)
    return None if not known or None in known else sum(figure or 0 for figure in known)
