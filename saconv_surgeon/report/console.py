"""Whole reports as Rich renderables, for 80 columns and up. Names from a model are never read as markup and never cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import (
    Diff,
    Equivalence,
    Explained,
    FoldedLayer,
    GateResult,
    OutputDiff,
    Plan,
    Priced,
    Profile,
)
from saconv_surgeon.report import differences, fits, foldings, layers, price, sites, text
from saconv_surgeon.report.proofs import proof


def inspection(plan: Plan, name: str, width: int, gates: Sequence[GateResult] = ()) -> RenderableType:
    """What ``inspect`` prints."""
    table = sites.table(plan.sites, width, sites.target(plan))
    return Group(_title("inspect", name), table, Text(), sites.ledger(plan), *_gates(gates))


def conversion(
    plan: Plan,
    equivalence: Equivalence,
    explained: Explained | None,
    priced: Priced | None,
    name: str,
    width: int,
    gates: Sequence[GateResult] = (),
    *,
    every_site: bool,
) -> RenderableType:
    """What ``convert`` prints. Refused convolutions are grouped by reason unless ``every_site``."""
    parts: list[RenderableType] = [_title("convert", name)]
    if every_site:
        parts.append(sites.table(plan.sites, width, sites.target(plan)))
    else:
        parts.append(sites.table([s for s in plan.sites if s.converts], width, sites.target(plan)))
        parts += sites.refusals(plan.sites)
    parts += [Text(), sites.ledger(plan), Text()]
    parts += [proof(equivalence)] if explained is None else fits.explained(explained, equivalence)
    if priced is not None:
        parts += [Text(), *price.of_two(priced, ("before", "after"), width)]
    return Group(*parts, *_gates(gates))


def folding(
    folded: Sequence[FoldedLayer],
    equivalence: Equivalence | None,
    tolerance: float | None,
    cost: OutputDiff | None,
    priced: Priced | None,
    name: str,
    width: int,
    gates: Sequence[GateResult] = (),
) -> RenderableType:
    """What ``fold`` prints."""
    parts: list[RenderableType] = [_title("fold", name), foldings.table(folded, width), Text(), foldings.ledger(folded)]
    parts += [*foldings.norms_that_stay(folded), Text()]
    parts += [*foldings.cost(tolerance, cost, folded), *([] if equivalence is None else [proof(equivalence)])]
    if priced is not None:
        parts += [Text(), *price.of_two(priced, ("before", "after"), width)]
    return Group(*parts, *_gates(gates))


def profile(record: Profile, width: int, gates: Sequence[GateResult] = (), *, every_layer: bool) -> RenderableType:
    """What ``profile`` prints."""
    parts: list[RenderableType] = [_title("profile", record.model), price.totals(record), Text()]
    parts += [*price.batches(record), *price.training(record)]
    parts += [layers.table(record, width, every_layer), *price.footnotes((record,))]
    if record.comparison is not None:
        parts += [Text(), *differences.since(record.comparison)]
    return Group(*parts, *_gates(gates))


def diff(record: Diff, width: int, *, every_row: bool = False) -> RenderableType:
    """What ``diff`` prints: totals first, then only what differs."""
    return Group(
        _title("diff", f"A = {record.a.model}   B = {record.b.model}"),
        *price.of_two(record.priced, ("A", "B"), width),
        Text(),
        *differences.structure(record, every_row=every_row),
        *differences.layers(record, width, every_row=every_row),
        *differences.weights(record, every_row=every_row),
        *differences.outputs(record),
        *differences.freedom(record, width),
        *_gates(record.gates),
    )


def _gates(results: Sequence[GateResult]) -> list[RenderableType]:
    """Each gate in a line of its own."""
    lines = [Text(text.gate(result), style="bold red" if result.failed else "green") for result in results]
    return [Text(), *lines] if lines else []


def environment(facts: Mapping[str, Any]) -> RenderableType:
    """What ``env`` prints."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(str(value if value is not None else "not installed")))
    return table


def _title(command: str, name: str) -> Text:
    line = Text(f"saconv-surgeon {command}  ", style="bold")
    line.append(name, style="not bold cyan")
    line.append("\n")
    return line
