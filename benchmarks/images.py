"""Images made on the spot: one figure of any size on a patterned ground, to be told from five others."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

FIGURES = ("disc", "square", "diamond", "ring", "cross", "stripes")
SMALLEST, LARGEST = 0.12, 0.42
"""Radius of a figure as a share of the image's side: a factor of three and a half."""


def figures(n: int, size: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``n`` images, (n, 3, size, size) with mean 0 and deviation about 1, and which of the figures each shows, (n,)."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(FIGURES), (n,), generator=g)
    scale = math.log(LARGEST / SMALLEST)
    radius = SMALLEST * torch.exp(scale * torch.rand(n, generator=g))
    centre = radius[:, None] + (1 - 2 * radius[:, None]) * torch.rand(n, 2, generator=g)
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    u = (x - centre[:, 0, None, None]) / radius[:, None, None]
    v = (y - centre[:, 1, None, None]) / radius[:, None, None]
    masks = torch.stack(_masks(u, v))[labels, torch.arange(n)].float()
    front, back = torch.randn(2, n, 3, 1, 1, generator=g)
    far = (front - back).square().sum(1, keepdim=True) < 2  # too alike: make them differ
    front = torch.where(far, back + 1.5 * (front - back).sign(), front)
    ground = F.interpolate(torch.randn(n, 3, 6, 6, generator=g), (size, size), mode="bilinear")
    image = torch.where(masks[:, None] > 0, front, back + 0.5 * ground)
    return image + 0.3 * torch.randn(image.shape, generator=g), labels


def _masks(u: Tensor, v: Tensor) -> list[Tensor]:
    """Where each figure is, in coordinates in which it reaches from -1 to 1."""
    distance = (u.square() + v.square()).sqrt()
    box = torch.maximum(u.abs(), v.abs())
    return [
        distance < 1,
        box < 0.9,
        u.abs() + v.abs() < 1.1,
        (distance < 1) & (distance > 0.6),
        (torch.minimum(u.abs(), v.abs()) < 0.3) & (box < 1),
        (distance < 1) & ((u * 2).floor() % 2 == 0),
    ]
