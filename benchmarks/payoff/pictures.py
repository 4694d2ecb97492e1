"""Pictures: digits of very different sizes on a part of a photo, with their boxes, and a label for every 4×4 pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.payoff.material import digits, photos

CELL = 4
"""Side of what one label of the grid is about, in pixels."""
INK = 0.2
"""Share of a cell that has to be ink of a digit for the cell to be labelled with it."""
OVERLAP = 0.1
"""Share of the smaller of two boxes that may be hidden."""
TRIES = 12
NOISE = 0.02
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1."""
SMALL_SIDE = 18
"""A digit whose longer side has fewer pixels is small."""


@dataclass(frozen=True)
class Kind:
    """How pictures are made: their side, the sides of digits, how many."""

    side: int
    smallest: int
    largest: int
    most: int


@dataclass(frozen=True)
class Pictures:
    """``n`` pictures with at most ``k`` digits each.

    ``images`` (n, 3, side, side) uint8; ``boxes`` (n, k, 4) as x0, y0, x1, y1 in pixels; ``classes`` (n, k), -1 for no digit;
    ``grid`` (n, side/4, side/4): 0 for the ground, class + 1 for a digit; ``sides`` of the same size: the longer side of that
    digit in pixels, 0 for the ground.
    """

    images: Tensor
    boxes: Tensor
    classes: Tensor
    grid: Tensor
    sides: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def chosen(self, index: Tensor | slice) -> Pictures:
        """Some of them."""
        return Pictures(*(getattr(self, f.name)[index] for f in fields(self)))

    def inputs(self) -> Tensor:
        """What a model is run on: float32 in -1…1."""
        return self.images.float() / 127.5 - 1

    def split(self, size: int) -> Iterator[Pictures]:
        """All of them in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.chosen(slice(start, start + size))


def pictures(kind: Kind, n: int, seed: int, *, test: bool, cache: Path | None = None) -> Pictures:
    """``n`` pictures of a kind, the same for the same seed; read from the folder ``cache`` if they are there."""
    name = f"{kind.side}-{kind.smallest}-{kind.largest}-{kind.most}-{'test' if test else 'train'}-{n}-{seed}.pt"
    path = cache / name if cache else None
    if path is not None and path.exists():
        return Pictures(*torch.load(path, weights_only=True))
    g = np.random.default_rng([seed, test])
    drawn = [_picture(kind, test, g) for _ in range(n)]
    made = Pictures(*(torch.from_numpy(np.stack(parts)) for parts in zip(*drawn, strict=True)))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{torch.initial_seed() % 10**6}.tmp")
        torch.save([getattr(made, f.name) for f in fields(made)], temporary)
        temporary.replace(path)
    return made


def _picture(kind: Kind, test: bool, g: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The tensors of :class:`Pictures` for one picture."""
    image = _ground(kind.side, photos(test), g)
    masks, labels = digits(test)
    boxes, classes = np.zeros((kind.most, 4), np.float32), np.full(kind.most, -1, np.int8)
    cells = kind.side // CELL
    grid, sides = np.zeros((cells, cells), np.uint8), np.zeros((cells, cells), np.uint8)
    placed: list[Box] = []
    for _ in range(g.integers(1, kind.most + 1)):
        chosen = int(g.integers(len(masks)))
        side = round(kind.smallest * math.exp(g.random() * math.log(kind.largest / kind.smallest)))
        mask = _resized(masks[chosen], side)
        height, width = mask.shape
        box = _place(kind.side, height, width, placed, g)
        if box is None:
            continue
        x, y = box[:2]
        part = image[y : y + height, x : x + width]
        part += mask[..., None] * (_colour(part, g) - part)
        ink = np.zeros((kind.side, kind.side), np.float32)
        ink[y : y + height, x : x + width] = mask
        there = ink.reshape(cells, CELL, cells, CELL).mean((1, 3)) > INK
        grid[there], sides[there] = int(labels[chosen]) + 1, side
        boxes[len(placed)], classes[len(placed)] = box, int(labels[chosen])
        placed.append(box)
    image += NOISE * g.standard_normal(image.shape, np.float32)
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8).transpose(2, 0, 1)
    return pixels, boxes, classes, grid, sides


def _ground(side: int, found: tuple[np.ndarray, ...], g: np.random.Generator) -> np.ndarray:
    """A square part of a photo at one of its scales, mirrored or not."""
    photo = found[int(g.integers(len(found)))]
    y, x = (int(g.integers(size - side + 1)) for size in photo.shape[:2])
    part = photo[y : y + side, x : x + side]
    return (part[:, ::-1] if g.random() < 0.5 else part).copy()


def _resized(mask: Tensor, side: int) -> np.ndarray:
    scale = side / max(mask.shape)
    size = [max(2, round(length * scale)) for length in mask.shape]
    return F.interpolate(mask[None, None], size, mode="bilinear", antialias=True)[0, 0].numpy()


def _place(side: int, height: int, width: int, others: list[Box], g: np.random.Generator) -> Box | None:
    """A box that hides little of the others and is hidden little by them; None if none was found."""
    for _ in range(TRIES):
        x, y = int(g.integers(side - width + 1)), int(g.integers(side - height + 1))
        box = (x, y, x + width, y + height)
        if all(_shared(box, other) <= OVERLAP * min(_area(box), _area(other)) for other in others):
            return box
    return None


def _shared(a: Box, b: Box) -> int:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _colour(part: np.ndarray, g: np.random.Generator) -> np.ndarray:
    """A colour that differs from the mean of the ground by a contrast that also varies, (3,)."""
    mean = part.mean((0, 1))
    contrast = 0.25 + 0.5 * g.random()
    tint = 0.3 * (g.random(3, np.float32) - 0.5)
    return (mean + (contrast if mean.mean() < 0.5 else -contrast) + tint).clip(0, 1).astype(np.float32)
