"""The receptive field of a model: what local operations can reach, and what the weights make of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saconv_surgeon.errors import first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.profiling.receptive_field.local_reach import LocalReach, reach_only
from saconv_surgeon.profiling.receptive_field.stages import Stages
from saconv_surgeon.records import ReceptiveField, StageField

LEAST = 0.0455
"""Of the largest gradient: what lies two standard deviations from the middle of a bell curve."""
TRIES = 8
LARGER = (1, 2, 4)
"""How much larger than the input the one is that the reach is measured on, until it fits."""
MOST_PIXELS = 1024 * 1024
PICTURE = 48
"""Cells of a picture along each side, at most."""


@dataclass(frozen=True)
class _Reach:
    """(height, width) of what a stage reaches, and whether it ends at the border."""

    size: tuple[int, int]
    is_clipped: bool


def receptive_field_of(model: nn.Module, inputs: Inputs, seed: int = 0) -> ReceptiveField:
    """Per stage of ``model``, in eval mode: the theoretical field by structure alone, the effective one by gradients.

    The effective one is the mean of |gradient| over eight inputs drawn from a normal distribution. The model is left as it was.
    """
    inputs = inputs.samples(0, 1) if inputs.batch else inputs
    size = None if inputs.image_size is None else (int(inputs.image_size[0]), int(inputs.image_size[1]))
    images = [t for t in inputs.tensors if t.is_floating_point() and t.dim() == 4 and tuple(t.shape[-2:]) == size]
    if size is None or not images:
        return ReceptiveField((), size, note="no input is a batch of images, (N, C, H, W)")
    try:
        effective, paths = _effective(model, inputs, size, seed)
    except Exception as error:
        return ReceptiveField((), size, note=f"gradients cannot be taken: {type(error).__name__}, {first_line(error)}")
    if not effective:
        return ReceptiveField((), size, note="no map of more than one pixel depends on the input by a gradient")
    reached, means, note = _reaches(model, inputs, size)
    stages = tuple(
        StageField(
            path=paths[stride],
            stride=stride,
            theoretical=reached[stride].size if stride in reached else None,
            is_clipped=stride in reached and reached[stride].is_clipped,
            effective=_side(gradient),
            picture=_picture(gradient),
        )
        for stride, gradient in effective.items()
    )
    return ReceptiveField(stages, size, means, TRIES, note)


def _effective(
    model: nn.Module, inputs: Inputs, size: tuple[int, int], seed: int
) -> tuple[dict[int, Tensor], dict[int, str]]:
    """By stride the mean of |gradient|, (H, W), and the paths."""
    sums: dict[int, Tensor] = {}
    paths: dict[int, str] = {}
    draw = torch.Generator().manual_seed(seed)
    for trial in range(TRIES):

        def drawn(t: Tensor) -> Tensor:
            return torch.randn(t.shape, generator=draw).to(t)

        for stride, path, gradient in _gradients(model, inputs, size, drawn, weights=trial):
            paths[stride] = path
            sums[stride] = sums.get(stride, 0) + gradient.abs().sum(dim=(0, 1)).double().cpu()
    return dict(sorted(sums.items())), paths


def _reaches(model: nn.Module, inputs: Inputs, size: tuple[int, int]) -> tuple[dict[int, _Reach], int, str | None]:
    """By stride; of a larger input as long as a field ends at the border, if the model takes one."""
    found: dict[int, _Reach] = {}
    means, note = 0, None
    for factor in LARGER:
        larger = (size[0] * factor, size[1] * factor)
        if factor > 1 and (larger[0] * larger[1] > MOST_PIXELS or not any(r.is_clipped for r in found.values())):
            break
        try:
            reach, each = _reach_on(model, inputs, larger)
        except Exception as error:
            if factor == 1:
                note = f"the theoretical field is not known: {type(error).__name__}, {first_line(error)}"
            break
        means = max(means, reach.global_means)
        found |= {stride: _extent(gradient) for stride, _, gradient in each}
    return found, means, note


def _reach_on(
    model: nn.Module, inputs: Inputs, size: tuple[int, int]
) -> tuple[LocalReach, list[tuple[int, str, Tensor]]]:
    """In float64, in which the small gradients of deep models do not vanish; a model that insists on its dtype has that."""
    for dtype in (torch.float64, None):
        reach = LocalReach()
        try:
            with reach:
                return reach, _gradients(model, inputs, size, partial(_ones, size=size, dtype=dtype), alone=True)
        except Exception:
            if dtype is None:
                raise
    raise AssertionError


def _ones(t: Tensor, size: tuple[int, int], dtype: torch.dtype | None) -> Tensor:
    return torch.ones((*t.shape[:-2], *size)).to(t).to(dtype or t.dtype)


def _gradients(
    model: nn.Module,
    inputs: Inputs,
    size: tuple[int, int],
    drawn: Callable[[Tensor], Tensor],
    weights: int | None = None,
    *,
    alone: bool = False,
) -> list[tuple[int, str, Tensor]]:
    """Of every stage, for the images that ``drawn`` makes of the inputs' ; ``alone`` runs the reach of the layers."""
    made: list[Tensor] = []
    original = inputs.image_size

    def image(t: Tensor) -> Tensor:
        if not (t.is_floating_point() and t.dim() == 4 and t.shape[-2:] == original and not made):
            return t.detach().clone()
        made.append(drawn(t.detach()).requires_grad_())
        return made[0]

    with preserved(model), torch.enable_grad():
        subject = stand_in(model)
        with preserved(subject):
            if alone:
                reach_only(subject)
            given = inputs.mapped(image)
            stages = Stages(size)
            with stages.watched(subject):
                output: Any = subject(*given.args, **given.kwargs)
            found = list(stages.gradients(made[0], weights))
            del output
    return found


def _extent(gradient: Tensor) -> _Reach:
    reached = gradient.abs().sum(dim=(0, 1)) > 0
    rows, columns = reached.any(dim=1).nonzero().flatten(), reached.any(dim=0).nonzero().flatten()
    if not len(rows):
        return _Reach((0, 0), is_clipped=False)
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    at_border = top == 0 or left == 0 or bottom == reached.shape[0] - 1 or right == reached.shape[1] - 1
    return _Reach((bottom - top + 1, right - left + 1), at_border)


def _side(gradient: Tensor) -> float | None:
    most = float(gradient.max())
    if not math.isfinite(most) or most <= 0:
        return None
    return math.sqrt(int((gradient >= LEAST * most).sum()))


def _picture(gradient: Tensor) -> tuple[tuple[float, ...], ...]:
    """The gradient as a small map of values from 0 to 1; its root, so that the tails are seen."""
    most = float(gradient.max())
    if not math.isfinite(most) or most <= 0:
        return ()
    side = [min(PICTURE, length) for length in gradient.shape]
    small = F.adaptive_max_pool2d((gradient / most).sqrt()[None, None].float(), side)[0, 0]
    return tuple(tuple(round(value, 3) for value in row) for row in small.tolist())
