"""Everything that a report of one command says, for files: names, numbers and sentences, no layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from saconv_surgeon.records import LayerCost, LayerPair, PlannedSite
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Line, Table
from saconv_surgeon.report.curve import Curve
from saconv_surgeon.report.pictures import Gallery
from saconv_surgeon.report.scatter import Scatter
from saconv_surgeon.report.tree import Tree


@dataclass(frozen=True)
class Total:
    """A figure of each model as people read it, their ratio, and what the figure means."""

    label: str
    values: tuple[str, ...]
    ratio: str = ""
    meaning: str = ""


LEADING = ("latency", "parameters", "MACs")
"""The labels of the totals that lead a page."""


@dataclass(frozen=True)
class Figure:
    """A column of the layers: its label, its field in a row, and how it is written."""

    label: str
    field: str
    show: Callable[[float | None], str]


FIGURES = (
    Figure("params", "parameters", human.count),
    Figure("MACs", "macs", human.count),
    Figure("time", "latency_s", human.seconds),
    Figure("backward", "backward_s", human.seconds),
    Figure("saved", "saved_bytes", human.memory),
    Figure("FLOPs", "flops", human.count),
    Figure("activations", "activations", human.count),
    Figure("bytes", "bytes_moved", human.memory),
)


@dataclass(frozen=True)
class Layer:
    """A layer in both models, or in the only one; None for a model that does not have it."""

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
        """In B, if it is another."""
        other = self.row.path or ROOT
        return other if other != self.path else None

    @property
    def type(self) -> str:
        """``Conv2d → SAConv2d``."""
        kinds = dict.fromkeys(row.type for row in (self.a, self.b) if row is not None)
        return " → ".join(kinds)

    @property
    def converted(self) -> bool:
        """Whether the conversion put it there."""
        return self.row.converted

    def figure(self, field: str) -> tuple[float | None, float | None]:
        """In A and in B."""
        return getattr(self.a, field, None), getattr(self.b, field, None)


@dataclass(frozen=True)
class Step:
    """Something to do next: what for, and the command or the code for it."""

    purpose: str
    code: str


@dataclass(frozen=True)
class Page:
    """``sides`` are what the models are called: one or two.

    ``steps`` are what can be done next, and ``made_by`` is the command that made the report, when, and with which versions.
    ``sites`` are the convolutions of an inspection, which has no layers. ``rows`` are what CSV has of a command that has neither.
    """

    command: str
    subject: str
    sides: tuple[str, ...] = ("value",)
    models: tuple[str, ...] = ()
    verdicts: tuple[Line, ...] = ()
    totals: tuple[Total, ...] = ()
    layers: tuple[Layer, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    sites: tuple[PlannedSite, ...] = ()
    curves: tuple[Curve, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    tree: Tree | None = None
    scatters: tuple[Scatter, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    steps: tuple[Step, ...] = ()
    made_by: str = ""

    @property
    def is_pair(self) -> bool:
        """Whether two models are compared."""
        return len(self.sides) == 2

    @property
    def lead_totals(self) -> tuple[Total, ...]:
        """What is asked first: how long, how large, how much work. The first latency, if there are several."""
        found = [next((t for t in self.totals if t.label.startswith(label)), None) for label in LEADING]
        return tuple(total for total in found if total is not None)

    @property
    def other_totals(self) -> tuple[Total, ...]:
        """The rest, one step down."""
        return tuple(total for total in self.totals if total not in self.lead_totals)

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """The columns in which at least one layer has a figure."""
        return tuple(f for f in FIGURES if any(value for layer in self.layers for value in layer.figure(f.field)))

    @property
    def filled_tables(self) -> tuple[Table, ...]:
        """The tables that have rows, without their empty columns."""
        return tuple(each.without_empty_columns for each in self.tables if each.rows)


def paired_layers(a: Sequence[LayerCost], b: Sequence[LayerCost], pairs: Sequence[LayerPair] = ()) -> tuple[Layer, ...]:
    """The rows of two profiles side by side; by their paths if ``pairs`` does not say how."""
    rows_a, rows_b = ({row.path: row for row in side} for side in (a, b))
    return tuple(
        Layer(
            None if p.a is None else rows_a[p.a],
            None if p.b is None else rows_b[p.b],
            p.change,
        )
        for p in pairs or _pairs_by_path(a, b)
    )


def _pairs_by_path(a: Sequence[LayerCost], b: Sequence[LayerCost]) -> list[LayerPair]:
    left, right = ({row.path: row for row in side} for side in (a, b))
    pairs = []
    for path in dict.fromkeys([*left, *right]):
        if path in left and path in right:
            same = left[path].type == right[path].type
            pairs.append(LayerPair(path, path, "same" if same else "changed"))
        elif path in left:
            pairs.append(LayerPair(path, None, "removed"))
        else:
            pairs.append(LayerPair(None, path, "added"))
    return pairs
