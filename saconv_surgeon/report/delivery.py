"""A record as every kind of report: on the terminal at any width, and as HTML, Markdown, CSV or SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, RenderableType

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
    with_strings,
)
from saconv_surgeon.report import console, markdown, pages, tabular, text
from saconv_surgeon.report.page import Page

SVG_WIDTH = 100
KINDS = (".html", ".md", ".csv", ".svg")
SVG = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Rich's own form without the fonts that it would fetch from the network: every cell has its width, so any will do."""
R = TypeVar("R")


class Converted(Protocol):
    """What is told of a conversion."""

    @property
    def plan(self) -> Plan:
        """What was decided."""

    @property
    def equivalence(self) -> Equivalence:
        """The proof."""

    @property
    def explained(self) -> Explained | None:
        """What is left, where it cannot be equal."""

    @property
    def priced(self) -> Priced | None:
        """What it costs."""


class Folded(Protocol):
    """What is told of a folded model."""

    @property
    def layers(self) -> tuple[FoldedLayer, ...]:
        """What became of each."""

    @property
    def equivalence(self) -> Equivalence | None:
        """The proof."""

    @property
    def tolerance(self) -> float | None:
        """How far a layer was allowed to move by what was taken out of it."""

    @property
    def cost(self) -> OutputDiff | None:
        """How far the outputs moved by that."""

    @property
    def priced(self) -> Priced | None:
        """What it costs."""


@dataclass(frozen=True)
class Report:
    """What is printed at a width, and the same as a page; ``raw`` has names with whatever control characters are in them."""

    terminal: Callable[[int], RenderableType]
    page: Page
    raw: Page

    def as_file(self, kind: str) -> str:
        """The text of a file of this kind, one of ``KINDS``."""
        if kind == ".svg":
            return _svg(self.terminal(SVG_WIDTH), f"saconv-surgeon {self.page.command}")
        if kind == ".html":
            from saconv_surgeon.report import html  # jinja2 takes as long to import as all the rest

            return html.render(self.page)
        return tabular.render(self.raw) if kind == ".csv" else markdown.render(self.page)


def of_inspection(plan: Plan, name: str, gates: Sequence[GateResult] = ()) -> Report:
    """Of ``inspect``."""
    raw = (plan, name)
    shown = _shown(raw)
    return Report(
        lambda width: console.inspection(*shown, width, gates),
        pages.of_inspection(*shown, gates),
        pages.of_inspection(*raw, gates),
    )


def of_profile(record: Profile, gates: Sequence[GateResult] = (), *, every_layer: bool) -> Report:
    """Of ``profile``."""
    shown = _shown(record)
    return Report(
        lambda width: console.profile(shown, width, gates, every_layer=every_layer),
        pages.of_profile(shown, gates),
        pages.of_profile(record, gates),
    )


def of_conversion(done: Converted, name: str, gates: Sequence[GateResult] = (), *, every_site: bool) -> Report:
    """Of ``convert``."""
    raw = (done.plan, done.equivalence, done.explained, done.priced, name)
    shown = _shown(raw)
    return Report(
        lambda width: console.conversion(*shown, width, gates, every_site=every_site),
        pages.of_conversion(*shown, gates),
        pages.of_conversion(*raw, gates),
    )


def of_folding(done: Folded, name: str, gates: Sequence[GateResult] = ()) -> Report:
    """Of ``fold``."""
    raw = (done.layers, done.equivalence, done.tolerance, done.cost, done.priced, name)
    shown = _shown(raw)
    return Report(
        lambda width: console.folding(*shown, width, gates),
        pages.of_folding(*shown, gates),
        pages.of_folding(*raw, gates),
    )


def of_diff(record: Diff, *, every_row: bool) -> Report:
    """Of ``diff``."""
    shown = _shown(record)
    return Report(
        lambda width: console.diff(shown, width, every_row=every_row), pages.of_diff(shown), pages.of_diff(record)
    )


def _shown(record: R) -> R:
    """With names that can be shown as they are."""
    changed: R = with_strings(record, text.visible)
    return changed


def _svg(report: RenderableType, title: str) -> str:
    out = Console(record=True, width=SVG_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    out.print(report, highlight=False)
    return out.export_svg(title=title, code_format=SVG)
