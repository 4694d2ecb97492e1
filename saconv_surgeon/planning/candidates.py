"""What each convolution of a model may become, and plans made of such choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from torch import nn

from saconv_surgeon._version import __version__
from saconv_surgeon.convs.saconv_parts import Parts
from saconv_surgeon.convs.targets.choices import choices_of
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.convs.targets.target import Reason
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.census.census import take_census
from saconv_surgeon.models.census.followers import add_context
from saconv_surgeon.models.loading.in_memory import check_weights
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import MIXED, Base, Mode, Plan, PlannedSite
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.surgery.decisions import Selection, plan_sites

NOT_CHOSEN = Reason("not-chosen", "not chosen: other layers gain more for their price")
CHEAPEST_FIRST: tuple[Parts, ...] = ("contexts", "branches", "all")
assert set(CHEAPEST_FIRST) == set(get_args(Parts))


@dataclass(frozen=True)
class Offered:
    """``plan`` has every site: those with ``candidates`` become the first of these, the others say why they have none."""

    plan: Plan
    candidates: Mapping[str, tuple[Candidate, ...]]

    @property
    def names(self) -> tuple[Candidate, ...]:
        """Every candidate that some site has, once."""
        return tuple({c.name: c for own in self.candidates.values() for c in own}.values())


def candidates_of_targets(targets: Sequence[str], options: Mapping[str, str] | None = None) -> tuple[Candidate, ...]:
    """What a layer may become if the user lists ``targets``: the parts of each target that has any, the others as they are.

    ``options`` are given to every target that has them; ``parts`` among them leaves those parts only.

    Raises:
        UsageError: There is no such target, it is listed twice, no target has an option, or a target does not keep the function.
    """
    given = dict(options or {})
    found: list[Candidate] = []
    for i, name in enumerate(targets):
        target = find_target(name)
        if name in targets[:i]:
            raise UsageError(f"the target {name!r} is listed twice")
        if not target.preserves:
            raise UsageError(
                f"layers of the target {name!r} do not equal their convolutions, so nothing says what one gains; "
                "convert to it with convert, and leave it out here"
            )
        own = {key: value for key, value in given.items() if key in target.options}
        if "parts" in target.options and "parts" not in own:
            prefix = "" if name == "saconv" else f"{name}-"
            choices = [(f"{prefix}{parts}", {**own, "parts": parts}) for parts in CHEAPEST_FIRST]
        else:
            parts = own.get("parts", "")
            choices = [(parts if name == "saconv" and parts else f"{name}-{parts}" if parts else name, own)]
        for label, chosen in choices:
            target.parse(chosen)
            found.append(Candidate(label, name, chosen))
    strangers = [key for key in given if not any(key in find_target(name).options for name in targets)]
    if strangers:
        raise UsageError(f"none of the targets {', '.join(targets)} has an option {strangers[0]!r}")
    return tuple(found)


def offer(
    model: nn.Module,
    inputs: Inputs,
    candidates: Sequence[Candidate],
    *,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    mode: Mode = "eval",
    base: Base = Base(),  # noqa: B008 - frozen
) -> Offered:
    """The candidates of every convolution of ``model``: those whose target accepts it. ``model`` is run once, and left as it was.

    ``selection`` says which convolutions to look at; its options are not used, since candidates have their own.

    Raises:
        UsageError: A pattern of the selection matches nothing.
        ModelError: ``model`` has no weights.
    """
    check_weights(model)
    census = take_census(model, inputs, mode)
    sites = add_context(model, census, mode)
    plans = [
        plan_sites(
            model,
            sites,
            census,
            choices_of(candidate.target, candidate.options),
            selection=replace(selection, absorb=False),
            image_size=inputs.image_size,
            base=base,
        )
        for candidate in candidates
    ]
    own: dict[str, tuple[Candidate, ...]] = {}
    rows = []
    for versions in zip(*(plan.sites for plan in plans), strict=True):
        accepted = tuple(c for c, site in zip(candidates, versions, strict=True) if site.converts)
        if accepted:
            own[versions[0].path] = accepted
        rows.append(next((site for site in versions if site.converts), versions[0]))
    return Offered(replace(plans[0], sites=tuple(rows), mode=mode, tool_version=__version__), own)


def without(offered: Offered, paths: Sequence[str], reason: Reason) -> Offered:
    """``offered`` with the sites at ``paths`` refused."""
    gone = set(paths)
    sites = tuple(_refused(site, reason) if site.path in gone else site for site in offered.plan.sites)
    left = {path: own for path, own in offered.candidates.items() if path not in gone}
    return Offered(replace(offered.plan, sites=sites), left)


def everywhere(offered: Offered, candidate: Candidate) -> dict[str, Candidate]:
    """``candidate`` for every site that has it."""
    return {path: candidate for path, own in offered.candidates.items() if candidate in own}


def with_choices(plan: Plan, choices: Mapping[str, Candidate]) -> Plan:
    """``plan`` with the sites in ``choices`` converted to their candidates.

    Others that could be converted are refused as not chosen, and those that were refused stay so.

    Each site has a target and options of its own. The plan's own target is that of all, or none if they differ.

    Raises:
        UsageError: ``choices`` has a path that the plan does not convert.
    """
    known = {site.path for site in plan.sites if site.converts or site.reason_code == NOT_CHOSEN.code}
    stranger = next((path for path in choices if path not in known), None)
    if stranger is not None:
        raise UsageError(f"{stranger!r} is not among the convolutions that the plan can convert")
    goals = [Goal.of(choice.target, choice.options) for choice in choices.values()]
    names = {goal.target.name for goal in goals}
    target = names.pop() if len(names) == 1 else MIXED if names else plan.target
    written = [tuple(goal.written.items()) for goal in goals]
    options = (
        {} if target == MIXED else dict(max(sorted(set(written)), key=lambda w: written.count(w), default=plan.options))
    )
    sites = tuple(_decided(site, choices.get(site.path)) for site in plan.sites)
    return replace(plan, sites=sites, target=target, options=options)


def _decided(site: PlannedSite, choice: Candidate | None) -> PlannedSite:
    if choice is None:
        return _refused(site, NOT_CHOSEN) if site.converts else site
    goal = Goal.of(choice.target, choice.options)
    assert site.arguments is not None
    cost = goal.target.added(site.arguments, site.shapes, {**goal.options, "allow_depthwise": True})
    return replace(
        site,
        decision="convert",
        reason=None,
        reason_code=None,
        added_parameters=cost.parameters,
        added_macs=cost.macs,
        target=goal.target.name,
        options=goal.written,
    )


def _refused(site: PlannedSite, reason: Reason) -> PlannedSite:
    return replace(
        site, decision="refuse", reason=reason.text, reason_code=reason.code, target=None, options=None, instead=None
    )
