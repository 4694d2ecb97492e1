"""A report before it is known whether as HTML, Markdown or CSV: names, numbers and sentences, no layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from saconv_surgeon.records import LayerCost, PlannedSite
from saconv_surgeon.report import text

Tone = Literal["good", "bad", "warn", "plain"]
ROOT = "(the model itself)"


@dataclass(frozen=True)
class Line:
    """A sentence, and whether it is good news."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Total:
    """A figure of each model as people read it, their ratio, and what the figure means."""

    label: str
    values: tuple[str, ...]
    ratio: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Figure:
    """A column of the layers: how it is called, where it is in a row, and how it is written."""

    label: str
    field: str
    show: Callable[[float | None], str]


FIGURES = (
    Figure("params", "parameters", text.count),
    Figure("MACs", "macs", text.count),
    Figure("time", "latency_s", text.seconds),
    Figure("FLOPs", "flops", text.count),
    Figure("activations", "activations", text.count),
    Figure("bytes", "bytes_moved", text.memory),
)


@dataclass(frozen=True)
class Layer:
    """A layer in both models, or in the only one; None for the one that does not have it."""

    a: LayerCost | None
    b: LayerCost | None
    change: Literal["same", "added", "removed", "changed"]

    @property
    def row(self) -> LayerCost:
        """The later of the two."""
        row = self.b or self.a
        assert row is not None
        return row

    @property
    def path(self) -> str:
        """In A, unless it was added."""
        return (self.a or self.row).path or ROOT

    @property
    def new_path(self) -> str | None:
        """In B, where it is another."""
        other = self.row.path or ROOT
        return other if other != self.path else None

    @property
    def type(self) -> str:
        """``Conv2d → SAConv2d``."""
        kinds = dict.fromkeys(row.type for row in (self.a, self.b) if row is not None)
        return " → ".join(kinds)

    @property
    def converted(self) -> bool:
        """Whether it is a layer that surgery put there."""
        return self.row.converted

    def figure(self, field: str) -> tuple[float | None, float | None]:
        """In A and in B."""
        return getattr(self.a, field, None), getattr(self.b, field, None)


@dataclass(frozen=True)
class Table:
    """Rows of text under titles."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def without_empty_columns(self) -> Table:
        """The same, without columns in which nothing is said."""
        kept = [i for i in range(len(self.columns)) if any(row[i] for row in self.rows)]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[i] for i in kept), rows=rows)


@dataclass(frozen=True)
class Page:
    """Everything that a report of one command says. ``sides`` are what the models are called: one or two.

    ``sites`` are the convolutions of an inspection, which has no layers.
    """

    command: str
    subject: str
    sides: tuple[str, ...]
    models: tuple[str, ...]
    verdicts: tuple[Line, ...]
    totals: tuple[Total, ...]
    layers: tuple[Layer, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    sites: tuple[PlannedSite, ...] = ()

    @property
    def is_pair(self) -> bool:
        """Whether two models are compared."""
        return len(self.sides) == 2
