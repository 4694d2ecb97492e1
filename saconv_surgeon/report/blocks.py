"""What a report is made of before it has a format: lines and tables, each piece of text with a tone. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Tone = Literal["plain", "good", "warn", "bad", "dim", "strong", "bar"]
ROOT = "(the model itself)"
"""What a report calls the module with an empty path."""


@dataclass(frozen=True)
class Span:
    """A piece of a line."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Line:
    """A sentence.

    ``tone`` says whether it is good news. ``mark`` is a sign that formats without one of their own put in front. ``indent`` is in
    characters.
    """

    spans: tuple[Span, ...] = ()
    tone: Tone = "plain"
    mark: str = ""
    indent: int = 0

    @property
    def text(self) -> str:
        """The sentence without tones."""
        return "".join(span.text for span in self.spans)


BLANK = Line()


def line(text: str, tone: Tone = "plain", *, indent: int = 0) -> Line:
    """A sentence that is all in one tone."""
    return Line((Span(text, tone),), tone, indent=indent)


def led(lead: str, text: str, tone: Tone, *, mark: str = "") -> Line:
    """A sentence of which only the first words have a tone."""
    return Line((Span(lead, tone), Span(text)), tone, mark)


@dataclass(frozen=True)
class Column:
    """A column of a table; ``least`` and ``from_width``, in characters, are for formats with a width."""

    title: str
    right: bool = False
    whole: bool = False
    """Never wraps."""
    least: int = 0
    from_width: int = 0
    """The page width from which it is shown."""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Cell:
    """The text of a cell; ``note`` follows it, less prominent."""

    text: str
    tone: Tone = "plain"
    note: str = ""

    def __str__(self) -> str:
        return self.text + self.note


@dataclass(frozen=True)
class Table:
    """Rows under columns. A table without a header has columns without titles."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    note: str = ""
    header: bool = True
    folded: bool = False
    """Whether a page shows only its title until it is opened: there is little to read in it."""

    @property
    def without_empty_columns(self) -> Table:
        """The same without the columns in which every cell is empty."""
        kept = [i for i in range(len(self.columns)) if any(str(row[i]) for row in self.rows)]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[i] for i in kept), rows=rows)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Cell | str]], note: str = "", *, folded: bool = False
) -> Table:
    """A table whose columns are only their titles."""
    return Table(title, tuple(map(Column, columns)), tuple(map(tuple, rows)), note, folded=folded)


Block = Line | Table
