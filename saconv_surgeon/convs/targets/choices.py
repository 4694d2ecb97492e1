"""What the convolutions of a model may become: one target for all, a mix of several, or what a plan says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.convs.targets.mixes import MIXES, Mix, Rule
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.errors import UsageError
from saconv_surgeon.records import MIXED, ConvSite, Plan, PlannedSite


@dataclass(frozen=True)
class Choices:
    """``name`` and ``options`` are those that a plan has as its own; ``own`` has what other sites become, by path."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[tuple[Rule, Goal], ...] = ()
    own: Mapping[str, Goal] = field(default_factory=dict)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Everything that a convolution may become."""
        return (*(goal for _, goal in self.rules), *self.own.values())

    def of(self, site: ConvSite, stride: int | None) -> tuple[Goal, ...]:
        """What ``site``, whose output is at ``stride``, may become, the best first; empty if nothing is said of it."""
        if site.path in self.own:
            return (self.own[site.path],)
        return tuple(goal for rule, goal in self.rules if rule.is_for(site, stride))


def choices_of(name: str, options: Mapping[str, str]) -> Choices:
    """The target or the mix called ``name``. The options of a mix go to those of its targets that have them.

    Raises:
        UsageError: There is none, or it does not have an option.
    """
    mix = MIXES.get(name)
    if mix is None:
        goal = Goal.of(name, options)
        return Choices(name, goal.written, ((Rule(name), goal),))
    _check_options(mix, options)
    return Choices(name, dict(options), tuple((rule, _handed_on(rule, options)) for rule in mix.rules))


def choices_in(plan: Plan) -> Choices:
    """What ``plan``, which a user may have edited, says of each convolution.

    Raises:
        UsageError: A target that there is not, or an option that it does not have; names the site if it is a site's own.
    """
    usual = Choices(MIXED) if plan.target == MIXED else choices_of(plan.target, plan.options)
    own = {}
    for site in plan.sites:
        has_own = site.target is not None or site.options is not None
        if not (has_own or (site.converts and plan.target == MIXED)):
            continue
        try:
            own[site.path] = goal_of(plan, site)
        except UsageError:
            if site.converts:
                raise
    return Choices(usual.name, usual.options, usual.rules, own)


def goal_of(plan: Plan, site: PlannedSite) -> Goal:
    """What ``plan`` makes of ``site``, which it converts.

    Raises:
        UsageError: There is no such target, or it does not have an option; names the site if the fault is its own.
    """
    name, options = plan.target_of(site)
    has_own = site.target is not None or site.options is not None
    try:
        if name == MIXED or name in MIXES:
            raise UsageError(f"{name!r} is a mix of targets, and the site needs a target of its own")
        return Goal.of(name, options)
    except UsageError as error:
        if has_own or name == MIXED or name in MIXES:
            raise UsageError(f"the plan converts {site.path!r}, but not to what there is: {error}") from error
        raise


def targets_in_use(plan: Plan) -> tuple[Target, ...]:
    """What the convolutions that ``plan`` converts become, each once; if it converts none, what they might have become."""
    used = [goal_of(plan, site).target for site in plan.sites if site.converts]
    used = used or [goal.target for goal in choices_in(plan).goals]
    return tuple({target.name: target for target in used}.values())


def _handed_on(rule: Rule, options: Mapping[str, str]) -> Goal:
    known = find_target(rule.target).options
    return Goal.of(rule.target, {**rule.options, **{name: text for name, text in options.items() if name in known}})


def _check_options(mix: Mix, options: Mapping[str, str]) -> None:
    has = dict.fromkeys(name for rule in mix.rules for name in find_target(rule.target).options)
    unknown = next((name for name in options if name not in has), None)
    if unknown is not None:
        targets = ", ".join(rule.target for rule in mix.rules)
        raise UsageError(
            f"no target of the mix {mix.name!r} ({targets}) has an option {unknown!r}; they have: {', '.join(has) or 'none'}"
        )
