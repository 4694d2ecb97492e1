"""A line through points, as a page holds it before it has a format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A point with a name."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Curve:
    """Points in ascending order of x, what the axes are, and points to be pointed out. ``x_prefix`` stands before values of x."""

    title: str
    x_label: str
    y_label: str
    points: tuple[tuple[float, float], ...]
    marks: tuple[Mark, ...] = ()
    x_prefix: str = "×"
