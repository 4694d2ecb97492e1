"""Dots on two logarithmic axes under lines, as a page holds them before they have a format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Dot:
    """A named point; ``weight`` from 0 to 1 is how much it matters. ``side`` is which model it is of."""

    x: float
    y: float
    name: str
    weight: float
    side: Literal["before", "after"] = "after"
    warned: bool = False


@dataclass(frozen=True)
class Roof:
    """A line that rises with ``slope`` up to ``top`` and stays there."""

    slope: float
    top: float
    name: str


@dataclass(frozen=True)
class Scatter:
    """``arrows`` lead from one dot to another, by their places in ``dots``."""

    title: str
    x_label: str
    y_label: str
    dots: tuple[Dot, ...]
    arrows: tuple[tuple[int, int], ...] = ()
    roofs: tuple[Roof, ...] = ()
    note: str = ""
