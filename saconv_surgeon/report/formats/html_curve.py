"""The curves of an HTML report: a line with axes, round ticks and named points, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from saconv_surgeon.report.curve import Curve, Mark

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44
TICKS = 5
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in units of the drawing, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Drawn:
    """A curve in units of the drawing."""

    curve: Curve
    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


def drawn(curve: Curve) -> Drawn:
    """``curve`` with scales that hold all points and marks, the gain from zero."""
    xs = [x for x, _ in curve.points] + [m.x for m in curve.marks]
    ys = [0.0, *(y for _, y in curve.points), *(m.y for m in curve.marks)]
    x_of, y_of = _scale(xs, LEFT, WIDTH - RIGHT), _scale(ys, HEIGHT - BOTTOM, TOP)
    places = "L".join(f"{x_of(x):.4g} {y_of(y):.4g}" for x, y in curve.points)
    return Drawn(
        curve,
        f"M{places}" if places else "",
        tuple(Tick(x_of(x), f"{curve.x_prefix}{x:g}") for x in ticks(min(xs), max(xs))),
        tuple(Tick(y_of(y), f"{y:g}") for y in ticks(min(ys), max(ys))),
        tuple(Mark(x_of(m.x), y_of(m.y), m.name) for m in curve.marks),
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two: some five of them."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in STEPS if s * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _scale:
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.span = min(values), (max(values) - min(values)) or 1.0
        self.start, self.length = start, end - start

    def __call__(self, value: float) -> float:
        return self.start + self.length * (value - self.low) / self.span
