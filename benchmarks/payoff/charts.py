"""Pictures as SVG: differences with their intervals, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from saconv_surgeon.comparing.paired_difference import Difference

Row = tuple[str, Difference]
Scale = Callable[[float], float]
NAMES, PLOT, LINE, EDGE = 215, 420, 22, 14
SHOWN, NOT_SHOWN, RULE = "#1f6fb2", "#8a8f98", "#c9ccd1"


def intervals(title: str, unit: str, groups: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """One row for each difference, in groups with a heading; grey if the interval includes zero."""
    ends = [d.mean + sign * (d.half_width or 0.0) for _, rows in groups for _, d in rows for sign in (-1, 1)]
    low, high = min([*ends, 0.0]), max([*ends, 1.0])
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
    height = LINE * (2 + sum(1 + len(rows) for _, rows in groups)) + 2 * EDGE

    def x(value: float) -> float:
        return round(NAMES + PLOT * (value - low) / (high - low), 1)

    parts = [_text(EDGE, EDGE + 10, title, weight="bold")]
    bottom = height - EDGE - LINE
    for tick in _ticks(low, high):
        colour = "#555" if tick == 0 else RULE
        parts.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="{EDGE + LINE}" y2="{bottom}" stroke="{colour}"/>')
        parts.append(_text(x(tick), bottom + 15, f"{tick:+g}".replace("-", "−") if tick else "0", anchor="middle"))
    parts.append(_text(NAMES + PLOT, bottom + 30, unit, anchor="end"))
    y = EDGE + LINE * 1.5
    for heading, rows in groups:
        parts.append(_text(EDGE, y + 4, heading, weight="bold"))
        y += LINE
        for name, found in rows:
            parts += [_text(EDGE + 10, y + 4, name), *_bar(found, x, y)]
            y += LINE
    size = f'width="{NAMES + PLOT + 2 * EDGE}" height="{height + EDGE}"'
    view = f'viewBox="0 0 {NAMES + PLOT + 2 * EDGE} {height + EDGE}"'
    style = 'font-family="system-ui, sans-serif" font-size="12"'
    back = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {style}>', back, *parts, "</svg>"]) + "\n"


def _bar(found: Difference, x: Scale, y: float) -> list[str]:
    colour = SHOWN if found.shown else NOT_SHOWN
    parts = [f'<circle cx="{x(found.mean)}" cy="{y}" r="4" fill="{colour}"/>']
    if found.half_width is not None:
        a, b = x(found.mean - found.half_width), x(found.mean + found.half_width)
        parts.append(f'<line x1="{a}" x2="{b}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
    return parts


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{escape(words)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for s in (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0) if (high - low) / s <= 10 or s == 50.0)
    first = int(low // step) + 1
    return [step * k for k in range(first, int(high // step) + 1)]
