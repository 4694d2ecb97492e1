"""A report for a pull request, in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import Cell, Table, table
from saconv_surgeon.report.page import Layer, Page
from saconv_surgeon.report.report import Report

SHOWN = 20
"""Rows of a table that are seen without unfolding it."""
MOST = 300
"""Rows that are written at all: a comment on GitHub holds 65,536 characters."""
SPECIAL = re.compile(r"([\\`*_{}\[\]#!|~$@>]|:(?=[/\w])|(?<=www)\.)")
"""The characters that could start markup, a link, a mention or an emoji's name in the middle of a line."""
MARKS = {"good": "✅", "bad": "❌", "warn": "⚠️"}
NO_MARK = "ℹ️"


def render(report: Report) -> str:
    """The verdicts and the totals, then what differs; long tables are folded."""
    page = report.page
    parts = [f"### saconv-surgeon {page.command}: {escaped(page.subject)}"]
    if page.verdicts:
        parts.append("\n".join(f"- {MARKS.get(line.tone, NO_MARK)} {escaped(line.text)}" for line in page.verdicts))
    if page.totals:
        parts.append(_totals(page))
    parts += [_folded(each) for each in page.filled_tables]
    if page.tree is not None:
        rows = [(node.path, node.type, *node.figures) for node in page.tree.root.walked]
        parts.append(_folded(table("Parts, each with all that is in it", ("part", "type", *page.tree.titles), rows)))
    if page.layers:
        parts.append(_folded(layers_table(page)))
    if page.steps:
        parts.append(
            "**What next**\n\n" + "\n\n".join(f"{escaped(step.purpose)}\n\n{_fenced(step.code)}" for step in page.steps)
        )
    if page.notes:
        parts.append("\n".join(f"<sub>{escaped(note)}</sub><br>" for note in page.notes))
    if page.made_by:
        parts.append(f"<sub>{escaped(page.made_by)}</sub>")
    return "\n\n".join(parts) + "\n"


def escaped(value: str) -> str:
    """Text that reads as it is: nothing in it is markup."""
    value = human.visible(value).replace("&", "&amp;").replace("<", "&lt;")
    return SPECIAL.sub(r"\\\1", value)


def _fenced(code: str) -> str:
    """A block of code, whatever runs of backticks are in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])
    return f"{fence}\n{code}\n{fence}"


def layers_table(page: Page) -> Table:
    """The layers that differ, the heaviest first; of a single model, all by weight."""
    shown = [layer for layer in page.layers if not page.is_pair or layer.change != "same"]
    shown.sort(key=lambda layer: max(layer.figure("macs")[i] or 0 for i in (0, 1)), reverse=True)
    titles = [f"{f.label} {side}".strip() for f in page.figures for side in (page.sides if page.is_pair else ("",))]
    title = "Layers that differ" if page.is_pair else "Layers"
    return table(title, ("layer", "type", *titles), [tuple(_cells(layer, page)) for layer in shown])


def _cells(layer: Layer, page: Page) -> Iterable[str]:
    yield layer.path if layer.new_path is None else f"{layer.path} → {layer.new_path}"
    yield layer.type
    for figure in page.figures:
        a, b = layer.figure(figure.field)
        if page.is_pair:
            yield figure.show(a) if layer.a is not None else ""
        yield figure.show(b) if layer.b is not None else ""


def _totals(page: Page) -> str:
    if page.is_pair:
        rows = [(t.label, *t.values, t.ratio) for t in page.totals]
        return _table(("", *page.sides, "ratio"), rows, numbers=True)
    return _table(("", "", ""), [(t.label, *t.values, t.meaning) for t in page.totals])


def _folded(each: Table) -> str:
    rows = each.rows[:MOST]
    body = _table([column.title for column in each.columns], rows)
    left_out = f"\n\n… and {len(each.rows) - MOST} more rows" if len(each.rows) > MOST else ""
    note = f"\n\n{escaped(each.note)}" if each.note else ""
    if len(rows) <= SHOWN:
        return f"**{escaped(each.title)}**{note}\n\n{body}{left_out}"
    summary = f"{each.title} ({human.plural(len(each.rows), 'row')})"
    return f"<details><summary>{escaped(summary)}</summary>{note}\n\n{body}{left_out}\n\n</details>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, numbers: bool = False) -> str:
    line = "|".join("---:" if numbers and i else "---" for i in range(len(columns)))
    written = [f"| {' | '.join(escaped(str(cell)) for cell in row)} |" for row in rows]
    return "\n".join([f"| {' | '.join(map(escaped, columns))} |", f"|{line}|", *written])
