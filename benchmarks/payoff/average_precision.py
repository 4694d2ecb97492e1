"""Average precision of boxes at one IoU, written from its definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Found = tuple[Tensor, Tensor, Tensor]
"""Boxes (n, 4) as x0, y0, x1, y1, confidences (n,) and classes (n,) of one picture."""
True_ = tuple[Tensor, Tensor]
"""Boxes (m, 4) and classes (m,) of one picture."""


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each of ``a`` (n, 4) with each of ``b`` (m, 4): (n, m)."""
    sides = torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared).clamp(min=1e-9)


def mean_average_precision(
    found: Sequence[Found],
    true: Sequence[True_],
    classes: int,
    *,
    asked: Sequence[Tensor] | None = None,
    at: float = 0.5,
) -> float:
    """The mean over the classes that are asked for of the area under precision by recall, precision made monotonic.

    Boxes are matched from the most confident on, each with the object of its class that it overlaps most and that is still free.

    Args:
        found: Of each picture, what was found.
        true: Of each picture, what is there.
        classes: How many classes.
        asked: Of each picture, which objects are asked for, (m,) bool. What matches one of the others is left out.
        at: The IoU from which on a box counts as found.
    """
    asked = asked or [torch.ones(len(labels), dtype=torch.bool) for _, labels in true]
    each = [_average_precision(found, true, asked, label, at) for label in range(classes)]
    had = [value for value in each if value is not None]
    return sum(had) / len(had)


def _average_precision(
    found: Sequence[Found], true: Sequence[True_], asked: Sequence[Tensor], label: int, at: float
) -> float | None:
    wanted = sum(int((asked[i] & (labels == label)).sum()) for i, (_, labels) in enumerate(true))
    if not wanted:
        return None
    hits: list[tuple[float, bool]] = []
    for i, (boxes, confidences, labels) in enumerate(found):
        own = labels == label
        there = true[i][1] == label
        hits += _hits(boxes[own], confidences[own], true[i][0][there], asked[i][there], at)
    hits.sort(key=lambda hit: -hit[0])
    right = torch.tensor([hit for _, hit in hits], dtype=torch.float64).cumsum(0)
    if not len(right):
        return 0.0
    recall = right / wanted
    precision = right / torch.arange(1, len(right) + 1)
    best_after = precision.flip(0).cummax(0).values.flip(0)
    steps = torch.diff(recall, prepend=torch.zeros(1, dtype=torch.float64))
    return float((steps * best_after).sum())


def _hits(boxes: Tensor, confidences: Tensor, there: Tensor, asked: Tensor, at: float) -> list[tuple[float, bool]]:
    """Of boxes of one class in one picture, confidence and if it is right; without those that match others than asked for."""
    overlaps = iou(boxes, there)
    free = torch.ones(len(there), dtype=torch.bool)
    hits = []
    for i in confidences.argsort(descending=True).tolist():
        mine = torch.where(free, overlaps[i], torch.zeros(())) if len(there) else overlaps[i]
        best = int(mine.argmax()) if len(there) else -1
        if best < 0 or float(mine[best]) < at:
            hits.append((float(confidences[i]), False))
            continue
        free[best] = False
        if bool(asked[best]):
            hits.append((float(confidences[i]), True))
    return hits
