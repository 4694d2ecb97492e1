"""Whole reports as Rich renderables, for 80 columns and up. Names from a model are never read as markup and never cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import Diff, Equivalence, Explained, Plan, Priced, Profile
from saconv_surgeon.report import differences, fits, layers, price, sites, text


def inspection(plan: Plan, name: str, width: int) -> RenderableType:
    """What ``inspect`` prints."""
    return Group(
        _title("inspect", name), sites.table(plan.sites, width, sites.target(plan)), Text(), sites.ledger(plan)
    )


def conversion(
    plan: Plan,
    equivalence: Equivalence,
    explained: Explained | None,
    priced: Priced | None,
    name: str,
    width: int,
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
    return Group(*parts)


def profile(record: Profile, width: int, *, every_layer: bool) -> RenderableType:
    """What ``profile`` prints."""
    parts: list[RenderableType] = [_title("profile", record.model), price.totals(record), Text()]
    parts += [*price.batches(record), *price.training(record)]
    parts += [layers.table(record, width, every_layer), *price.footnotes((record,))]
    if record.comparison is not None:
        parts += [Text(), *differences.since(record.comparison)]
    return Group(*parts)


def diff(record: Diff, width: int) -> RenderableType:
    """What ``diff`` prints: totals first, then only what differs."""
    return Group(
        _title("diff", f"A = {record.a.model}   B = {record.b.model}"),
        *price.of_two(record.priced, ("A", "B"), width),
        Text(),
        *differences.structure(record),
        *differences.weights(record),
        *differences.outputs(record),
    )


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


def proof(equivalence: Equivalence) -> Text:
    """The verdict of the proof in a line, and what is known where it is not a plain yes."""
    e = equivalence
    line = Text()
    if e.passed:
        line.append("✓ same outputs", style="bold green")
        line.append(
            ": bit-identical" if e.bit_equal else f": within {text.error(e.max_rel)} relative (allowed {e.tolerance:g})"
        )
    else:
        line.append("✗ outputs moved", style="bold red")
        line.append(f": {text.error(e.max_rel)} relative, {text.error(e.max_abs)} absolute (allowed {e.tolerance:g})")
    line.append(
        f", on {text.plural(e.trials, 'input')}, {text.plural(e.tensors, 'output tensor')}, {e.dtype} on {e.device}"
    )
    if e.mode == "train":
        line.append(", as in training and as in inference")
    if not e.deterministic:
        noise = text.error(e.noise_max_rel)
        line.append(
            f"\n  the model is not deterministic: it moves by {noise} relative from run to run, and was judged against that"
        )
    if e.first_moved is not None:
        line.append("\n  first layer that moves: ")
        line.append(e.first_moved, style="bold")
    if e.note is not None:
        line.append(f"\n  {e.note}")
    for problem in e.problems:
        line.append(f"\n  {problem}")
    return line
