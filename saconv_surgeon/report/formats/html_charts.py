"""The charts of an HTML report: a bar for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saconv_surgeon.report.page import Figure, Page

CHARTS = ("macs", "parameters", "latency_s")
"""What is drawn, layer by layer."""
SLOT, HEIGHT = 8, 100
"""Units of a chart: the width of a layer, and the height of the largest bar."""


@dataclass(frozen=True)
class Chart:
    """Bars of every layer as one path for each model."""

    figure: Figure
    width: int
    paths: tuple[tuple[str, str], ...]
    most: str
    heaviest: str


def chart(page: Page, name: str) -> Chart | None:
    """The chart of one figure; None if no layer has it."""
    figure = next((f for f in page.figures if f.field == name), None)
    if figure is None:
        return None
    values = [[layer.figure(name)[i] or 0.0 for layer in page.layers] for i in (0, 1)]
    most = max(map(max, values), default=0.0)
    if not most:
        return None
    sides = [("before", 0), ("after", 1)] if page.is_pair else [("after", 1)]
    paths = tuple((name, _bars(values[i], most, k, len(sides))) for k, (name, i) in enumerate(sides))
    peak = max(page.layers, key=lambda layer: max(v or 0.0 for v in layer.figure(figure.field)))
    return Chart(figure, SLOT * len(page.layers), paths, figure.show(most), peak.path)


def _bars(values: Sequence[float], most: float, place: int, of: int) -> str:
    width = (SLOT - 2) / of
    bars = ((SLOT * i + 1 + width * place, HEIGHT * value / most) for i, value in enumerate(values) if value)
    return "".join(f"M{x:g} {HEIGHT}v-{max(height, 0.6):.4g}h{width:g}v{max(height, 0.6):.4g}z" for x, height in bars)
