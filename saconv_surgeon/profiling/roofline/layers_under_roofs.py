"""Where each layer lies under its roof."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import LayerCost, Peaks, Roofline, RooflinePoint

MARGIN = 1.1
"""So much above every roof is more than what the spread of fast layers explains."""


def roofline_of(layers: Sequence[LayerCost], peaks: Peaks) -> Roofline:
    """A point for each layer of known time, FLOPs and bytes."""
    points = [point for layer in layers if (point := _point(layer, peaks)) is not None]
    return Roofline(peaks, tuple(points), sum(1 for layer in layers if layer.latency_s) - len(points))


def _point(layer: LayerCost, peaks: Peaks) -> RooflinePoint | None:
    if not (layer.latency_s and layer.flops and layer.bytes_moved):
        return None
    intensity, reached = layer.flops / layer.bytes_moved, layer.flops / layer.latency_s
    each = layer.bytes_moved // max(layer.ops or 1, 1)  # a kernel's own, which decides what stays in the caches
    speed = peaks.bytes_per_s(each)
    return RooflinePoint(
        path=layer.path,
        type=layer.type,
        intensity=intensity,
        flops_per_s=reached,
        roof_flops_per_s=peaks.roof(intensity, speed),
        bound="memory" if intensity * speed < peaks.flops_per_s else "compute",
        latency_s=layer.latency_s,
        above=reached > MARGIN * peaks.roof(intensity, peaks.most_bytes_per_s),
    )
