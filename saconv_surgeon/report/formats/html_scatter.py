"""Dots under roofs in an HTML report, on logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from saconv_surgeon.report import human
from saconv_surgeon.report.formats.html_curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Tick
from saconv_surgeon.report.scatter import Dot, Scatter

SMALLEST, LARGEST = 3.0, 11.0
"""Radii of dots without and with all of the weight."""
MOST_TICKS = 7


@dataclass(frozen=True)
class Place:
    """A dot in units of the drawing."""

    x: float
    y: float
    radius: float
    dot: Dot


@dataclass(frozen=True)
class Line:
    """A line, and where its name stands."""

    path: str
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class DrawnScatter:
    """Everything in units of the drawing."""

    scatter: Scatter
    dots: tuple[Place, ...]
    arrows: tuple[str, ...]
    roofs: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


class _Axis:
    """A logarithmic scale over whole powers of ten."""

    def __init__(self, values: Iterable[float], start: float, end: float) -> None:
        logarithms = [math.log10(value) for value in values if value > 0] or [0.0]
        self.low, self.high = math.floor(min(logarithms)), math.ceil(max(logarithms))
        self.high = max(self.high, self.low + 1)
        self.start, self.length = start, end - start

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + self.length * min(max(share, 0.0), 1.0)

    @property
    def ticks(self) -> list[float]:
        step = math.ceil((self.high - self.low) / MOST_TICKS)
        return [10.0**power for power in range(self.low, self.high + 1, step)]


def drawn_scatter(scatter: Scatter) -> DrawnScatter:
    """``scatter`` with scales that hold all dots and the tops of the roofs."""
    tops = [roof.top for roof in scatter.roofs]
    ridges = [roof.top / roof.slope for roof in scatter.roofs]
    x_of = _Axis([*(dot.x for dot in scatter.dots), *ridges], LEFT, WIDTH - RIGHT)
    y_of = _Axis([*(dot.y for dot in scatter.dots), *tops], HEIGHT - BOTTOM, TOP)
    dots = tuple(
        Place(x_of(d.x), y_of(d.y), SMALLEST + (LARGEST - SMALLEST) * math.sqrt(d.weight), d) for d in scatter.dots
    )
    return DrawnScatter(
        scatter,
        dots,
        tuple(f"M{dots[i].x:.4g} {dots[i].y:.4g}L{dots[j].x:.4g} {dots[j].y:.4g}" for i, j in scatter.arrows),
        tuple(_roof(roof.slope, roof.top, roof.name, x_of, y_of) for roof in scatter.roofs),
        tuple(Tick(x_of(x), f"{x:g}") for x in x_of.ticks),
        tuple(Tick(y_of(y), human.count(y)) for y in y_of.ticks),
    )


def _roof(slope: float, top: float, name: str, x_of: _Axis, y_of: _Axis) -> Line:
    low, high, floor = 10.0**x_of.low, 10.0**x_of.high, 10.0**y_of.low
    start = max(low, floor / slope)
    ridge = min(max(top / slope, start), high)
    points = [(start, slope * start), (ridge, min(slope * ridge, top)), (high, min(slope * high, top))]
    path = "L".join(f"{x_of(x):.4g} {y_of(y):.4g}" for x, y in points)
    middle = math.sqrt(start * ridge)
    return Line(f"M{path}", name, x_of(middle), y_of(slope * middle))
