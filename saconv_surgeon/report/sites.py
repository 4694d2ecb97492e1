"""The table of convolutions: what each is, and what becomes of it or why nothing does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import Plan, PlannedSite
from saconv_surgeon.report import text

MEDIUM, WIDE = 110, 150


def ledger(plan: Plan) -> Text:
    """One line in which every convolution is accounted for."""
    count = plan.ledger
    line = Text()
    line.append(text.plural(len(plan.sites), "convolution"), style="bold")
    line.append(f": {count.executed} executed, {count.never_ran} never ran · ")
    line.append(f"{count.converted} converted", style="green" if count.converted else "yellow")
    line.append(f", {count.refused} refused")
    line.append(f"\nhow they were found: {_witnesses(plan.sites)}", style="dim")
    return line


def _witnesses(sites: Sequence[PlannedSite]) -> str:
    """Which convolutions a graph showed with what follows them, and which only the run itself did."""
    alone = [site.path for site in sites if site.found_by == "census" and site.executed]
    counted = {
        "in the graph of the whole model": sum(site.found_by == "fx" for site in sites),
        "in graphs of its parts": sum(site.found_by not in ("fx", "census") for site in sites),
        "in its module tree alone": sum(site.found_by == "census" and not site.executed for site in sites),
        f"by running it alone ({text.names(alone)})": len(alone),
    }
    return ", ".join(f"{n} {how}" for how, n in counted.items() if n) or "there are none"


def target(plan: Plan) -> str:
    """What convolutions become, with its options: ``spconv ratio=1/4``."""
    return " ".join([plan.target, *(f"{name}={value}" for name, value in plan.options.items())])


def table(sites: Sequence[PlannedSite], width: int, target: str) -> RenderableType:
    """One row for each convolution."""
    rows = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", expand=False)
    rows.add_column("convolution", overflow="fold", ratio=None, min_width=12)
    rows.add_column("kind", overflow="fold", min_width=12)
    if width >= MEDIUM:
        rows.add_column("map", overflow="fold", min_width=11)
        rows.add_column("feeds", overflow="fold")
    if width >= WIDE:
        rows.add_column("calls", justify="right", no_wrap=True)
        rows.add_column("found by", overflow="fold")
    rows.add_column("+params", justify="right", no_wrap=True)
    rows.add_column("+MACs", justify="right", no_wrap=True)
    rows.add_column("decision", overflow="fold", min_width=14)
    for site in sites:
        cells = [_path(site), Text(text.convolution(site.arguments) or site.type)]
        if width >= MEDIUM:
            cells += [Text(text.maps(site.shapes) or "never ran"), Text(follows(site))]
        if width >= WIDE:
            cells += [Text(str(site.calls)), Text(site.found_by)]
        cells += [added(site.added_parameters), added(site.added_macs), decision(site, target)]
        rows.add_row(*cells)
    return rows


def _path(site: PlannedSite) -> Text:
    name = Text(site.path or "(the model itself)")
    if site.aliases:
        name.append(f" = {', '.join(site.aliases)}", style="dim")
    return name


def follows(site: PlannedSite) -> str:
    """``BatchNorm2d → ReLU``: what a convolution alone feeds."""
    kinds = [_kind(part) for part in (site.norm, site.activation) if part]
    return " → ".join(kinds)


def _kind(described: str) -> str:
    """``layer1.bn1 (BatchNorm2d)`` → ``BatchNorm2d``."""
    return described.rpartition(" (")[2].rstrip(")")


def added(value: int | None) -> Text:
    """``+2.64 k``."""
    sign = "+" if value is not None and value >= 0 else "−"
    return Text("" if value is None else f"{sign}{text.count(abs(value))}")


def decision(site: PlannedSite, target: str) -> Text:
    """What becomes of a convolution, or why nothing does."""
    if site.converts:
        line = Text(" + ".join([f"→ {target}", *site.absorbs]), style="green")
        if site.not_absorbed:
            line.append(f" ({site.not_absorbed})", style="dim")
        return line
    return Text(site.reason or "refused", style="dim")


def refusals(sites: Iterable[PlannedSite]) -> list[RenderableType]:
    """The convolutions that stay, grouped by the reason why."""
    groups: dict[str, list[PlannedSite]] = {}
    for site in sites:
        if not site.converts:
            groups.setdefault(site.reason or "refused", []).append(site)
    if not groups:
        return []
    lines: list[RenderableType] = [Text(), Text("Left as they are", style="bold")]
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(Padding(Text(f"{len(group)} × {reason}"), (0, 0, 0, 2)))
        names = text.names([site.path or "(the model itself)" for site in group])
        lines.append(Padding(Text(names, style="dim"), (0, 0, 0, 6)))
    return lines
