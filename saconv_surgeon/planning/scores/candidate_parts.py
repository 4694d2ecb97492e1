"""Which parts of a switchable layer a candidate has, and why others cannot be scored."""

from __future__ import annotations

from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.records import PlannedSite
from saconv_surgeon.records.budgeted_plan import Candidate

CONTEXTS, BRANCHES = "contexts", "branches"
HALVES = {"contexts": (CONTEXTS,), "branches": (BRANCHES,), "all": (CONTEXTS, BRANCHES)}
"""By the option ``parts``."""
SWITCHABLE = ("saconv", "saconv-deform")
"""Targets that have these parts. The offsets of the deformable one, zero at the start as well, are not counted."""


def halves_of(candidate: Candidate, site: PlannedSite | None) -> tuple[tuple[str, ...] | None, str | None]:
    """The halves that ``candidate`` has; or None and why its gain cannot be said. A layer with no new parameters has none."""
    target = find_target(candidate.target)
    if not target.preserves:
        return (
            None,
            f"{target.name} does not start from what the convolution computes, so gradients at the start say nothing",
        )
    if target.name in SWITCHABLE:
        return HALVES[str(target.parse(candidate.options).get("parts", candidate.options.get("parts", "all")))], None
    if _adds_nothing(target, candidate, site):
        return (), None
    return (
        None,
        f"the score knows the parts of {' and '.join(SWITCHABLE)}, not those of {target.name}",
    )


def _adds_nothing(target: Target, candidate: Candidate, site: PlannedSite | None) -> bool:
    if site is None or site.arguments is None:
        return False
    options = {**target.parse(candidate.options), "allow_depthwise": True}
    return target.added(site.arguments, site.shapes, options).parameters == 0
