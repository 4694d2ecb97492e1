"""A report for a pull request, in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from saconv_surgeon.report import text
from saconv_surgeon.report.page import Layer, Page, Table

SHOWN = 20
"""Rows of a table that are seen without unfolding it."""
MOST = 300
"""Rows that are written at all: a comment on GitHub holds 65,536 characters."""
SPECIAL = re.compile(r"([\\`*_{}\[\]#!|~$@>]|:(?=[/\w])|(?<=www)\.)")
"""Whatever could begin markup, a link, a mention or an emoji's name in the middle of a line."""
MARKS = {"good": "✅", "bad": "❌", "warn": "⚠️", "plain": "ℹ️"}


def render(page: Page) -> str:
    """The verdicts and the totals, then what differs; long tables are folded."""
    parts = [f"### saconv-surgeon {page.command}: {escaped(page.subject)}"]
    if page.verdicts:
        parts.append("\n".join(f"- {MARKS[line.tone]} {escaped(line.text)}" for line in page.verdicts))
    if page.totals:
        parts.append(_totals(page))
    parts += [_folded(table) for table in page.tables if table.rows]
    if page.layers:
        parts.append(_folded(layers_table(page)))
    if page.notes:
        parts.append("\n".join(f"<sub>{escaped(note)}</sub><br>" for note in page.notes))
    return "\n\n".join(parts) + "\n"


def escaped(value: str) -> str:
    """Text that reads as it is: nothing in it is markup."""
    value = text.visible(value).replace("&", "&amp;").replace("<", "&lt;")
    return SPECIAL.sub(r"\\\1", value)


def layers_table(page: Page) -> Table:
    """The layers that differ, the heaviest first; of a single model, all by weight."""
    shown = [layer for layer in page.layers if not page.is_pair or layer.change != "same"]
    shown.sort(key=lambda layer: max(layer.figure("macs")[i] or 0 for i in (0, 1)), reverse=True)
    titles = [f"{f.label} {side}".strip() for f in page.figures for side in (page.sides if page.is_pair else ("",))]
    title = "Layers that differ" if page.is_pair else "Layers"
    return Table(title, ("layer", "type", *titles), tuple(tuple(_cells(layer, page)) for layer in shown))


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


def _folded(table: Table) -> str:
    rows = table.rows[:MOST]
    body = _table(table.columns, rows)
    left_out = f"\n\n… and {len(table.rows) - MOST} more rows" if len(table.rows) > MOST else ""
    note = f"\n\n{escaped(table.note)}" if table.note else ""
    if len(rows) <= SHOWN:
        return f"**{escaped(table.title)}**{note}\n\n{body}{left_out}"
    summary = f"{table.title} ({text.plural(len(table.rows), 'row')})"
    return f"<details><summary>{escaped(summary)}</summary>{note}\n\n{body}{left_out}\n\n</details>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    line = "|".join("---:" if numbers and i else "---" for i in range(len(columns)))
    written = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(map(escaped, columns))} |", f"|{line}|", *written])
