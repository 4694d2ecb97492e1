"""A report on the terminal, for 80 columns and up. Names from a model are never read as markup and never cut off."""

from __future__ import annotations

from rich import table as rich
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from saconv_surgeon.report.blocks import Block, Cell, Line, Table, Tone
from saconv_surgeon.report.report import Report

STYLES: dict[Tone, str] = {
    "plain": "",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "dim": "dim",
    "strong": "bold",
    "bar": "cyan",
}


def render(report: Report, width: int) -> RenderableType:
    """The title, then the blocks."""
    title = Text(f"saconv-surgeon {report.page.command}  ", style="bold")
    title.append(report.page.subject, style="not bold cyan")
    return Group(title, Text(), *(drawn(block, width) for block in report.blocks(width)))


def drawn(block: Block, width: int) -> RenderableType:
    """A line or a table."""
    return _line(block) if isinstance(block, Line) else _table(block, width)


def _line(line: Line) -> RenderableType:
    drawn = Text()
    for i, span in enumerate(line.spans):
        style = STYLES[span.tone]
        if line.mark and i == 0:
            drawn.append(f"{line.mark} {span.text}", style=f"bold {style}")
        else:
            drawn.append(span.text, style=style)
    return Padding(drawn, (0, 0, 0, line.indent)) if line.indent else drawn


def _table(table: Table, width: int) -> RenderableType:
    drawn = rich.Table(box=None, pad_edge=False, header_style="bold", show_header=table.header)
    shown = [i for i, column in enumerate(table.columns) if width >= column.from_width]
    for i in shown:
        column = table.columns[i]
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="ellipsis" if column.whole else "fold",
            no_wrap=column.whole,
            min_width=column.least or None,
            style=STYLES[column.tone],
        )
    for row in table.rows:
        drawn.add_row(*(_cell(row[i]) for i in shown))
    return drawn


def _cell(cell: Cell | str) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    drawn = Text(cell.text, style=STYLES[cell.tone])
    if cell.note:
        drawn.append(cell.note, style="not bold dim")
    return drawn
