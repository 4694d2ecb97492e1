"""From a table of convolutions to a plan: the decision for each, and why."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from saconv_surgeon._version import __version__
from saconv_surgeon.convs.targets.choices import Choices
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.target import Reason
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.census.census import Census
from saconv_surgeon.records import Base, ConvSite, Plan, PlannedSite
from saconv_surgeon.surgery.absorption_rules import beside_branches, with_absorption
from saconv_surgeon.surgery.eligibility import Eligibility

SOFT_CODES = frozenset({"excluded", "not-included", "min-stride", "not-in-plan", "refused-in-plan", "depthwise"})
"""Refusals that are a choice: an edited plan may override them."""


@dataclass(frozen=True)
class Selection:
    """Which of the eligible convolutions to convert, and how. Patterns are matched against dotted paths; ``*`` crosses dots.

    ``options`` are those of the target, as the user writes them.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_stride: int | None = None
    allow_depthwise: bool = False
    absorb: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


def plan_sites(
    model: nn.Module,
    sites: Sequence[ConvSite],
    census: Census,
    choices: Choices,
    *,
    selection: Selection = Selection(),
    image_size: tuple[int, int] | None = None,
    base: Base = Base(),  # noqa: B008 - frozen
    in_training: Sequence[ConvSite] = (),
) -> Plan:
    """Decides for every site. Nothing is changed.

    Args:
        model: The model that the census was taken of.
        sites: Its convolutions.
        census: The run that found them.
        choices: What they may become.
        selection: The user's choice among the eligible ones.
        image_size: (H, W) that ``min_stride`` is measured from; the largest convolution input if it is None.
        base: Where the model came from, for the record.
        in_training: The convolutions as a run in training shows them, for what may be absorbed.

    Raises:
        UsageError: A pattern matches no convolution.
    """
    _check_patterns((*selection.include, *selection.exclude), sites)
    eligibility = Eligibility(model, census)
    size = image_size or _largest_input(sites)

    def decide(site: ConvSite) -> tuple[PlannedSite, Goal | None]:
        stride = _output_stride(site, size)
        tried = _tried(
            choices.of(site, stride),
            lambda goal: eligibility.why_not(site, goal, allow_depthwise=selection.allow_depthwise),
        )
        if not tried:
            return _planned(site, Reason("refused-in-plan", "its plan names no target for it")), None
        goal, reason = tried[-1]
        reason = reason or _not_selected(site, selection, stride)
        planned = _planned(site, reason)
        if site.arguments is None or (reason is not None and reason.code not in SOFT_CODES):
            return planned, None
        cost = goal.target.added(site.arguments, site.shapes, {**goal.options, "allow_depthwise": True})
        planned = replace(
            planned,
            added_parameters=cost.parameters,
            added_macs=cost.macs,
            note=goal.target.note(site, goal.options),
        )
        if (goal.target.name, goal.written) != (choices.name, choices.options):
            better = [f"{g.target.name}: {why.text}" for g, why in tried[:-1] if why is not None]
            instead = better[0] if better else None
            planned = replace(planned, target=goal.target.name, options=goal.written, instead=instead)
        return planned, goal

    decided = [decide(site) for site in sites]
    planned = tuple(site for site, _ in decided)
    wanting = {site.path for site, goal in decided if goal is not None and goal.target.norm_inside}
    if selection.absorb or wanting:
        able = {site.path: goal.target.absorbs for site, goal in decided if goal is not None}
        absorbing = with_absorption(model, census, planned, able, in_training)
        planned = tuple(
            beside_branches(model, new) if old.path in wanting else new if selection.absorb else old
            for old, new in zip(planned, absorbing, strict=True)
        )
    return Plan(choices.name, planned, base, __version__, str(torch.__version__), options=choices.options)


def _tried(goals: Iterable[Goal], why_not: Callable[[Goal], Reason | None]) -> list[tuple[Goal, Reason | None]]:
    """The goals, each with the reason against it, up to the first that has none."""
    tried: list[tuple[Goal, Reason | None]] = []
    for goal in goals:
        tried.append((goal, why_not(goal)))
        if tried[-1][1] is None:
            break
    return tried


def replay(
    recorded: Plan,
    fresh: Plan,
    refusal: Callable[[PlannedSite], Reason | None],
    is_made: Callable[[PlannedSite], bool] = lambda choice: False,
) -> Plan:
    """``fresh`` with the decisions of ``recorded``, which a user may have edited.

    Args:
        recorded: The plan to follow.
        fresh: A plan just made for the model at hand and for the targets of ``recorded``, without a selection, in which
            everything is absorbed that can be.
        refusal: Why a site of ``fresh`` cannot become its target at all (depthwise allowed), or None.
        is_made: Whether the model has the layer already that a site of ``recorded`` asks for: it stays, refused.

    Raises:
        UsageError: The recorded plan names convolutions that the model does not have, or wants one that is not eligible.
    """
    known = {site.path: site for site in fresh.sites}
    wanted = {site.path: site for site in recorded.sites}
    strangers = [path for path in wanted if path not in known]
    if strangers:
        raise UsageError(
            f"the plan names {len(strangers)} convolutions that this model does not have, first {strangers[0]!r}"
            f"{_near(strangers[0], known)}; make a new plan for this model"
        )

    def follow(site: PlannedSite) -> PlannedSite:
        choice = wanted.get(site.path)
        if choice is None:
            return _refused(site, Reason("not-in-plan", "not in the plan"))
        if not choice.converts:
            code, text = choice.reason_code or "refused-in-plan", choice.reason or "refused in the plan"
            is_hard = not site.converts and site.reason_code not in SOFT_CODES
            return site if is_hard else _refused(site, Reason(code, text))
        if site.reason_code == "already-converted" and is_made(choice):
            return site
        hard = refusal(site) if site.reason_code is None or site.reason_code in SOFT_CODES else _reason_of(site)
        if hard is not None:
            raise UsageError(f"the plan converts {site.path!r}, but that cannot be done: {hard.text}")
        return replace(_absorbing(site, choice), decision="convert", reason=None, reason_code=None)

    return replace(fresh, sites=tuple(map(follow, fresh.sites)))


def _reason_of(site: PlannedSite) -> Reason:
    return Reason(site.reason_code or "", site.reason or "")


def _absorbing(site: PlannedSite, choice: PlannedSite) -> PlannedSite:
    """``site`` with the parts that ``choice`` absorbs."""
    for name, path in choice.absorbs.items():
        if site.absorbs.get(name) != path:
            why = f": {site.not_absorbed}" if site.not_absorbed else ""
            raise UsageError(f"the plan lets {site.path!r} absorb {path!r} as {name!r}, but that cannot be done{why}")
    return replace(site, absorbs=dict(choice.absorbs), not_absorbed=choice.not_absorbed)


def refuse(plan: Plan, paths: Iterable[str], reason: Reason) -> Plan:
    """``plan`` with the sites at ``paths`` refused."""
    refused = set(paths)
    return replace(plan, sites=tuple(_refused(s, reason) if s.path in refused else s for s in plan.sites))


def _planned(site: ConvSite, reason: Reason | None) -> PlannedSite:
    if reason is None:
        return PlannedSite.of(site, "convert")
    return PlannedSite.of(site, "refuse", reason=reason.text, reason_code=reason.code)


def _refused(site: PlannedSite, reason: Reason) -> PlannedSite:
    return replace(site, decision="refuse", reason=reason.text, reason_code=reason.code)


def _not_selected(site: ConvSite, selection: Selection, stride: int | None) -> Reason | None:
    paths = (site.path, *site.aliases)
    for pattern in selection.exclude:
        if _matches(pattern, paths):
            return Reason("excluded", f"excluded by {pattern!r}")
    if selection.include and not any(_matches(pattern, paths) for pattern in selection.include):
        return Reason("not-included", "matched by no --include pattern")
    if selection.min_stride is not None and stride is not None and stride < selection.min_stride:
        return Reason("min-stride", f"its output is at stride {stride}, below {selection.min_stride}")
    return None


def _output_stride(site: ConvSite, size: tuple[int, int] | None) -> int | None:
    """The smallest of its calls; None if it never ran, or the image's size is not known."""
    if size is None:
        return None
    return min((_stride_of(shape.output[-2:], size) for shape in site.shapes if len(shape.output) >= 2), default=None)


def _stride_of(output: Sequence[int], size: tuple[int, int]) -> int:
    """How many times smaller a map is than the image, to the nearest whole number (odd sizes are rounded up on the way)."""
    return min(round(whole / max(part, 1)) for whole, part in zip(size, output, strict=True))


def _largest_input(sites: Iterable[ConvSite]) -> tuple[int, int] | None:
    maps = [shape.input[-2:] for site in sites for shape in site.shapes if len(shape.input) >= 3]
    return max(maps, key=lambda m: m[0] * m[1], default=None)  # type: ignore[return-value]


def _matches(pattern: str, paths: Iterable[str]) -> bool:
    return any(path == pattern or fnmatchcase(path, pattern) for path in paths)  # a path may hold brackets


def _check_patterns(patterns: Iterable[str], sites: Sequence[ConvSite]) -> None:
    names = [name for site in sites for name in (site.path, *site.aliases)]
    for pattern in patterns:
        if not _matches(pattern, names):
            raise UsageError(
                f"pattern {pattern!r} matches none of the model's {len(sites)} convolutions{_near(pattern, names)}"
            )


def _near(pattern: str, names: Iterable[str]) -> str:
    """`` (near: …)``: names below the pattern taken as a container first, then names that look alike."""
    names = list(names)
    below = [f"{pattern}.*"] if any(name.startswith(f"{pattern}.") for name in names) else []
    bare = pattern.strip("*.")
    alike = [name for name in names if bare and bare.lower() in name.lower()]
    by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
    close = difflib.get_close_matches(bare, names, n=3, cutoff=0.5)
    close += [by_last[last] for last in difflib.get_close_matches(bare, by_last, n=3, cutoff=0.6)]
    near = list(dict.fromkeys([*below, *alike, *close]))[:3]
    return f" (near: {', '.join(map(repr, near))})" if near else ""
