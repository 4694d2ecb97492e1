"""What convolutions become, in words: of one target or of several, and why one is not what its mix has for it first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from saconv_surgeon.records import Plan, PlannedSite
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Line, Span, line

WHOLE = ("parts", "all")
"""The option of a layer that is all that its name says."""
CONTEXTS_FIRST = "--parts contexts adds next to no MACs: try that first, and whole layers where it is not enough"


def becomes(plan: Plan, site: PlannedSite) -> str:
    """What ``site`` becomes, with its options: ``spconv ratio=1/4``."""
    return in_words(*plan.target_of(site))


def in_words(target: str, options: Mapping[str, str]) -> str:
    """``spconv ratio=1/4``; a whole layer has its name alone."""
    return " ".join([target, *(f"{name}={value}" for name, value in options.items() if (name, value) != WHOLE)])


def targets_in_use(plan: Plan) -> list[Line]:
    """How many convolutions become what, if that is not the same for all; then those that are not what was meant first."""
    counted = Counter(becomes(plan, site) for site in plan.sites if site.converts)
    lines = []
    if len(counted) > 1 or plan.target not in {*counted, *(name.partition(" ")[0] for name in counted)}:
        summary = ", ".join(f"{human.plural(n, 'layer')} → {name}" for name, n in counted.items())
        lines += [Line((Span(f"{plan.target}: "), Span(summary, "strong")))] if counted else []
    groups: dict[tuple[str, str], list[str]] = {}
    for site in plan.sites:
        if site.converts and site.instead is not None:
            groups.setdefault((becomes(plan, site), site.instead), []).append(site.path or ROOT)
    for (name, why), paths in groups.items():
        lines.append(line(f"{len(paths)} × {name} instead of {why}", "warn", indent=2))
        lines.append(line(human.names(paths), "dim", indent=6))
    return lines


def advice(plan: Plan) -> list[Line]:
    """What to try first, if whole switchable layers were asked for."""
    whole = plan.target == "saconv" and plan.options.get("parts", "all") == "all"
    return [line(CONTEXTS_FIRST, "dim")] if whole and plan.converted_paths else []
