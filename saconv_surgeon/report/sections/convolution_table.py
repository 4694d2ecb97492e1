"""Every convolution: what it is, and what it becomes or why it stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from saconv_surgeon.records import Plan, PlannedSite
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Cell, Column, Line, Span, Table, line, table
from saconv_surgeon.report.sections.targets_in_words import becomes

MEDIUM, WIDE = 110, 150
COLUMNS = (
    Column("convolution", least=12),
    Column("kind", least=12),
    Column("map", least=11, from_width=MEDIUM),
    Column("feeds", from_width=MEDIUM),
    Column("calls", right=True, whole=True, from_width=WIDE),
    Column("found by", from_width=WIDE),
    Column("+params", right=True, whole=True),
    Column("+MACs", right=True, whole=True),
    Column("decision", least=14),
)


def convolution_table(plan: Plan, *, only_converted: bool = False) -> Table:
    """One row for each convolution."""
    rows = tuple(
        (
            Cell(site.path or ROOT, note=f" = {', '.join(site.aliases)}" if site.aliases else ""),
            *_described(site),
            str(site.calls),
            site.found_by,
            *_added(site),
            _decision(plan, site),
        )
        for site in plan.sites
        if site.converts or not only_converted
    )
    return Table("", COLUMNS, rows)


def decisions(plan: Plan) -> Table:
    """The same for a page."""
    rows = [(site.path or ROOT, *_described(site), *_added(site), _decision(plan, site)) for site in plan.sites]
    columns = ("convolution", "kind", "map", "feeds", "+params", "+MACs", "decision")
    return table("Convolutions and decisions", columns, rows)


def ledger(plan: Plan) -> list[Line]:
    """Every convolution accounted for, then how they were found, and what their targets cannot do in some places."""
    count, before = plan.ledger, sum(site.earlier for site in plan.sites)
    first = (
        Span(human.plural(len(plan.sites), "convolution"), "strong"),
        Span(f": {count.executed} executed, {count.never_ran} never ran · "),
        Span(f"{count.converted} converted", "good" if count.converted else "warn"),
        Span(f" ({before} of them before)" if before else ""),
        Span(f", {count.refused} refused"),
    )
    return [Line(first), line(f"how they were found: {_witnesses(plan.sites)}", "dim"), *notes(plan.sites)]


def notes(sites: Iterable[PlannedSite]) -> list[Line]:
    """What is to be known of convolutions that are converted, one line for each kind of thing."""
    groups: dict[str, list[str]] = {}
    for site in sites:
        if site.converts and site.note:
            groups.setdefault(site.note, []).append(site.path or ROOT)
    return [line(f"{len(paths)} × {note} ({human.names(paths)})", "warn") for note, paths in groups.items()]


def refusals(sites: Iterable[PlannedSite]) -> list[Block]:
    """The convolutions that stay, grouped by reason, the largest group first."""
    groups: dict[str, list[PlannedSite]] = {}
    for site in sites:
        if not site.converts:
            groups.setdefault(site.reason or "refused", []).append(site)
    if not groups:
        return []
    lines: list[Block] = [BLANK, line("Left as they are", "strong")]
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(line(f"{len(group)} × {reason}", indent=2))
        lines.append(line(human.names([site.path or ROOT for site in group]), "dim", indent=6))
    return lines


def _witnesses(sites: Sequence[PlannedSite]) -> str:
    """How many convolutions a graph showed together with what follows them, and how many only the run."""
    alone = [site.path for site in sites if site.found_by == "census" and site.executed]
    counted = {
        "in the graph of the whole model": sum(site.found_by == "fx" for site in sites),
        "in graphs of its parts": sum(site.found_by not in ("fx", "census") for site in sites),
        "in its module tree alone": sum(site.found_by == "census" and not site.executed for site in sites),
        f"by running it alone ({human.names(alone)})": len(alone),
    }
    return ", ".join(f"{n} {how}" for how, n in counted.items() if n) or "there are none"


def _described(site: PlannedSite) -> tuple[str, str, str]:
    """Its kind, the sizes of its maps, and what it alone feeds: ``BatchNorm2d → ReLU``."""
    feeds = " → ".join(_kind(part) for part in (site.norm, site.activation) if part)
    return human.convolution(site.arguments) or site.type, human.maps(site.shapes) or "never ran", feeds


def _kind(described: str) -> str:
    """``layer1.bn1 (BatchNorm2d)`` → ``BatchNorm2d``."""
    return described.rpartition(" (")[2].rstrip(")")


def _added(site: PlannedSite) -> tuple[str, str]:
    """``+2.64 k``, for parameters and MACs; empty if it cannot be converted."""
    parameters, macs = (
        "" if value is None else f"{'+' if value >= 0 else '−'}{human.count(abs(value))}"
        for value in (site.added_parameters, site.added_macs)
    )
    return parameters, macs


def _decision(plan: Plan, site: PlannedSite) -> Cell:
    if not site.converts:
        return Cell(site.reason or "refused", "dim")
    said = [site.not_absorbed, "converted before" if site.earlier else None]
    note = "".join(f" ({each})" for each in said if each)
    return Cell(" + ".join([f"→ {becomes(plan, site)}", *site.absorbs]), "good", note)
