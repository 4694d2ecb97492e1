"""The charts of an HTML report: bars of the layers that have the most of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saconv_surgeon.report.page import Figure, Layer, Page

CHARTS = ("latency_s", "macs", "parameters")
"""What is drawn."""
SHOWN = 12
"""Layers in a chart: those with the most, in either model."""


@dataclass(frozen=True)
class Bar:
    """One model's bar of a layer: its width in per cent of the axis, and its figure as people read it."""

    side: str
    width: float
    shown: str


@dataclass(frozen=True)
class BarRow:
    """A layer, and its place in the page."""

    index: int
    layer: Layer
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Chart:
    """The layers with the most, in the order of the figure. ``axis`` has the figures at nothing, half and all of the axis."""

    figure: Figure
    title: str
    rows: tuple[BarRow, ...]
    axis: tuple[str, str, str]
    share: str


def chart(page: Page, name: str) -> Chart | None:
    """The chart of one figure; None if no layer has it."""
    figure = next((f for f in page.figures if f.field == name), None)
    if figure is None:
        return None
    sides = [("before", 0), ("after", 1)] if page.is_pair else [("after", 1)]
    values = [[layer.figure(name)[i] or 0.0 for _, i in sides] for layer in page.layers]
    ranked = sorted(range(len(values)), key=lambda i: max(values[i]), reverse=True)
    top = [i for i in ranked[:SHOWN] if max(values[i])]
    if not top:
        return None
    most = max(values[top[0]])
    rows = tuple(
        BarRow(
            i, page.layers[i], tuple(_bar(side, value, most, figure) for (side, _), value in _sided(sides, values[i]))
        )
        for i in top
    )
    whole = sum(each[-1] for each in values)
    share = sum(values[i][-1] for i in top) / whole if whole else 0.0
    axis = ("0", figure.show(most / 2), figure.show(most))
    return Chart(figure, _title(figure, len(top), len(page.layers)), rows, axis, f"{100 * share:.0f} %")


def _sided(sides: Sequence[tuple[str, int]], values: Sequence[float]) -> list[tuple[tuple[str, int], float]]:
    return list(zip(sides, values, strict=True))


def _bar(side: str, value: float, most: float, figure: Figure) -> Bar:
    return Bar(side, round(100 * value / most, 2), figure.show(value) if value else "0")


def _title(figure: Figure, shown: int, of: int) -> str:
    return f"{figure.label}: the {shown} largest of {of} layers" if shown < of else f"{figure.label} of every layer"
