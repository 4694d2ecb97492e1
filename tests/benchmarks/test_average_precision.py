"""Average precision against cases that were worked out by hand."""

import pytest
import torch

from benchmarks.payoff.average_precision import iou, mean_average_precision

A, B, C = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [50.0, 50, 60, 60]


def found(*rows):
    boxes = torch.tensor([r[0] for r in rows]).reshape(-1, 4)
    return boxes, torch.tensor([float(r[1]) for r in rows]), torch.tensor([r[2] for r in rows], dtype=torch.long)


def true(*rows):
    return torch.tensor([r[0] for r in rows]).reshape(-1, 4), torch.tensor([r[1] for r in rows], dtype=torch.long)


def test_iou_by_hand():
    # 5 × 10 shared of 100 + 100 − 50; nothing; the same
    others = torch.tensor([[5.0, 0, 15, 10], [40, 40, 50, 50], A])
    assert iou(torch.tensor([A]), others).tolist() == [[pytest.approx(1 / 3), 0.0, 1.0]]


CASES = {
    "all found": ([found((A, 0.9, 0), (B, 0.8, 0))], [true((A, 0), (B, 0))], 1.0),
    "nothing found": ([found()], [true((A, 0))], 0.0),
    # recall 1/2 at precision 1, then nothing
    "one of two": ([found((A, 0.9, 0))], [true((A, 0), (B, 0))], 0.5),
    # wrong, right: recall 1 at precision 1/2
    "the wrong one first": ([found((C, 0.9, 0), (A, 0.8, 0))], [true((A, 0))], 0.5),
    # right, wrong, right: 1/2 · 1 + 1/2 · 2/3
    "a wrong one between": ([found((A, 0.9, 0), (C, 0.8, 0), (B, 0.7, 0))], [true((A, 0), (B, 0))], 0.5 + 1 / 3),
    # wrong, right, right: precision 1/2 is lifted to 2/3
    "precision is made monotonic": ([found((C, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0))], [true((A, 0), (B, 0))], 2 / 3),
    # the second box has nothing left to match
    "found twice": ([found((A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0))], [true((A, 0), (B, 0))], 0.5 + 1 / 3),
    "the other class": ([found((A, 0.9, 1))], [true((A, 0))], 0.0),
    "in the other picture": ([found((A, 0.9, 0)), found()], [true(), true((A, 0))], 0.0),
    # one class 1, the other 1/2
    "mean over classes": ([found((A, 0.9, 0), (B, 0.9, 1))], [true((A, 0), (B, 1), (C, 1))], 0.75),
}


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name):
    boxes, objects, expected = CASES[name]
    assert mean_average_precision(boxes, objects, 2) == pytest.approx(expected)


def test_objects_that_are_not_asked_for_are_neither_missed_nor_wrong():
    boxes, objects = [found((B, 0.9, 0), (A, 0.8, 0))], [true((A, 0), (B, 0), (C, 0))]
    asked = [torch.tensor([True, False, False])]
    assert mean_average_precision(boxes, objects, 2, asked=asked) == 1.0
    assert mean_average_precision(boxes, objects, 2) == pytest.approx(2 / 3)


def test_just_below_the_iou_is_wrong():
    box = [0.0, 0, 10, 4.9]  # 0.49 of A
    assert mean_average_precision([found((box, 0.9, 0))], [true((A, 0))], 1) == 0.0
    assert mean_average_precision([found((box, 0.9, 0))], [true((A, 0))], 1, at=0.48) == 1.0
