"""From a table of convolutions to a plan: the decision for each, and why."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from saconv_surgeon._version import __version__
from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.convs.targets.target import Reason
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.census.census import Census
from saconv_surgeon.records import Base, ConvSite, Plan, PlannedSite
from saconv_surgeon.surgery.absorption_rules import with_absorption
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
    *,
    target: str = "saconv",
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
        target: What to convert to.
        selection: The user's choice among the eligible ones.
        image_size: (H, W) that ``min_stride`` is measured from; the largest convolution input if it is None.
        base: Where the model came from, for the record.
        in_training: The convolutions as a run in training shows them, for what may be absorbed.

    Raises:
        UsageError: A pattern matches no convolution, there is no such target, or it does not have an option.
    """
    _check_patterns((*selection.include, *selection.exclude), sites)
    goal = find_target(target)
    if selection.absorb and not goal.absorbs:
        raise UsageError(f"the target {target!r} has no norm and activation of its own; leave --absorb out")
    options = goal.parse(selection.options)
    eligibility = Eligibility(model, census, goal, options)
    size = image_size or _largest_input(sites)

    def decide(site: ConvSite) -> PlannedSite:
        reason = eligibility.why_not(site, allow_depthwise=selection.allow_depthwise) or _not_selected(
            site, selection, size
        )
        if site.arguments is None or (reason is not None and reason.code not in SOFT_CODES):
            return _planned(site, reason)
        cost = goal.added(site.arguments, site.shapes, {**options, "allow_depthwise": True})
        return replace(_planned(site, reason), added_parameters=cost.parameters, added_macs=cost.macs)

    decided = tuple(map(decide, sites))
    return Plan(
        target,
        with_absorption(model, census, decided, in_training) if selection.absorb else decided,
        base,
        __version__,
        torch.__version__,
        options=goal.written(options),
    )


def replay(recorded: Plan, fresh: Plan, refusal: Callable[[ConvSite], Reason | None]) -> Plan:
    """``fresh`` with the decisions of ``recorded``, which a user may have edited.

    Args:
        recorded: The plan to follow.
        fresh: A plan just made for the model at hand, without a selection, in which everything is absorbed that can be.
        refusal: Why a site cannot be converted at all (depthwise allowed), or None.

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
            return site if not site.converts else _refused(site, Reason(code, text))
        hard = refusal(site)
        if hard is not None:
            raise UsageError(f"the plan converts {site.path!r}, but that cannot be done: {hard.text}")
        return replace(_absorbing(site, choice), decision="convert", reason=None, reason_code=None)

    return replace(fresh, sites=tuple(map(follow, fresh.sites)), target=recorded.target)


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


def _not_selected(site: ConvSite, selection: Selection, size: tuple[int, int] | None) -> Reason | None:
    paths = (site.path, *site.aliases)
    for pattern in selection.exclude:
        if _matches(pattern, paths):
            return Reason("excluded", f"excluded by {pattern!r}")
    if selection.include and not any(_matches(pattern, paths) for pattern in selection.include):
        return Reason("not-included", "matched by no --include pattern")
    if selection.min_stride is not None and size is not None:
        stride = min(_stride_of(shape.output[-2:], size) for shape in site.shapes)
        if stride < selection.min_stride:
            return Reason("min-stride", f"its output is at stride {stride}, below {selection.min_stride}")
    return None


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
