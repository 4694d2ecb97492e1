"""How close each layer comes to what the machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from saconv_surgeon.records import LayerPair, Peaks, Profile, Roofline, RooflinePoint
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Cell, Column, Line, Table, line
from saconv_surgeon.report.scatter import Dot, Roof, Scatter

SHOWN, DOTS = 10, 150
"""Layers in the table of a terminal, and dots of each model: those that take longest."""


def roofline_blocks(profiles: Sequence[Profile]) -> list[Block]:
    """The peaks, then the layers of the last model that take longest, with what they reached; nothing if it was not asked for."""
    roofline = profiles[-1].roofline
    if roofline is None:
        return []
    before = {} if len(profiles) < 2 or profiles[0].roofline is None else _by_path(profiles[0].roofline)
    columns = (
        Column("roofline", least=12),
        Column("FLOP/byte", right=True, whole=True),
        Column("reached", right=True, whole=True),
        Column("of its roof", right=True, whole=True),
        *((Column("before", right=True, whole=True),) if before else ()),
        Column("bound by"),
    )
    rows = []
    for point in _longest(roofline, SHOWN):
        was = before.get(point.path)
        rows.append(
            (
                point.path or ROOT,
                f"{point.intensity:.3g}",
                f"{human.count(point.flops_per_s)}FLOP/s",
                Cell(human.percent(point.share), "warn" if point.above else "plain"),
                *(("" if was is None else human.percent(was.share),) if before else ()),
                point.bound,
            )
        )
    table: Block = Table("", columns, tuple(rows)) if rows else line("roofline: no layer has FLOPs and a time", "warn")
    said = [line(roofline.note, "warn")] if roofline.note else []
    return [BLANK, table, line(peaks_in_words(roofline.peaks), "dim"), *said, *warnings(profiles)]


def peaks_in_words(peaks: Peaks) -> str:
    """What was measured, and how."""
    flops, memory, caches = map(human.count, (peaks.flops_per_s, peaks.memory_bytes_per_s, peaks.most_bytes_per_s))
    return (
        f"peaks, measured in {human.seconds(peaks.seconds)}: {flops}FLOP/s ({peaks.fastest}, {peaks.dtype}), {memory}B/s copied "
        f"in memory, {caches}B/s in the caches; layer times include their hooks"
    )


def warnings(profiles: Sequence[Profile]) -> list[Line]:
    """Layers that are faster than the machine can be."""
    lines = []
    for p in profiles:
        above = [point.path or ROOT for point in p.roofline.points if point.above] if p.roofline else []
        if above:
            said = "faster than the machine was seen to be: a count may be too high, or the peak was measured on a busy machine"
            lines.append(line(f"{p.model}: {human.names(above)} above the roof, {said}", "warn"))
    return lines


def roofline_chart(profiles: Sequence[Profile], pairs: Sequence[LayerPair] = ()) -> tuple[Scatter, ...]:
    """A dot for each layer, and an arrow to what became of it; of layers that did not change, only what they are now."""
    last = profiles[-1].roofline
    if last is None:
        return ()
    total = sum(point.latency_s for point in last.points) or 1.0
    dots = [_dot(point, total, "after") for point in _longest(last, DOTS)]
    arrows = []
    if len(profiles) == 2 and profiles[0].roofline is not None:
        was, place = _by_path(profiles[0].roofline), {point.path: i for i, point in enumerate(_longest(last, DOTS))}
        for a, b in _changed(profiles[0], profiles[1], pairs):
            if a in was and b in place:
                arrows.append((len(dots), place[b]))
                dots.append(_dot(was[a], total, "before"))
    peaks = last.peaks
    roofs = (
        Roof(peaks.most_bytes_per_s, peaks.flops_per_s, f"caches {human.count(peaks.most_bytes_per_s)}B/s"),
        Roof(peaks.memory_bytes_per_s, peaks.flops_per_s, f"memory {human.count(peaks.memory_bytes_per_s)}B/s"),
    )
    hidden = len(last.points) - len(_longest(last, DOTS))
    said = [f"{peaks_in_words(peaks)}.", *([f"{last.note}."] if last.note else [])]
    said += [f"The {DOTS} layers that take longest; {hidden} more are not drawn."] if hidden else []
    said += (
        [f"{human.plural(last.left_out, 'layer')} with a time but without FLOPs have no dot."] if last.left_out else []
    )
    title = "Where each layer's time goes: the roofline"
    return (Scatter(title, "FLOP per byte moved", "FLOP/s", tuple(dots), tuple(arrows), roofs, " ".join(said)),)


def _changed(a: Profile, b: Profile, pairs: Sequence[LayerPair]) -> list[tuple[str, str]]:
    if pairs:
        return [
            (pair.a, pair.b) for pair in pairs if pair.change == "changed" and pair.a is not None and pair.b is not None
        ]
    types = {layer.path: layer.type for layer in a.layers}
    return [(row.path, row.path) for row in b.layers if row.path in types and types[row.path] != row.type]


def _dot(point: RooflinePoint, total: float, side: Literal["before", "after"]) -> Dot:
    name = f"{point.path or ROOT}, {point.type}: {human.percent(point.share)} of its roof, {human.seconds(point.latency_s)}"
    return Dot(point.intensity, point.flops_per_s, name, min(point.latency_s / total, 1.0), side, point.above)


def _longest(roofline: Roofline, most: int) -> list[RooflinePoint]:
    return sorted(roofline.points, key=lambda point: point.latency_s, reverse=True)[:most]


def _by_path(roofline: Roofline) -> dict[str, RooflinePoint]:
    return {point.path: point for point in roofline.points}
