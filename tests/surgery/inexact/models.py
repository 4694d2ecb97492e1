"""A model to convert to SPConv."""

import torch
from torch import nn

import saconv_surgeon as surgeon

X = torch.randn(4, 8, 12, 12, generator=torch.Generator().manual_seed(1))


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, stride=2)
        ).eval()


def to_spconv(model=None, x=X, **rest):
    return surgeon.convert(model or net(), x, target="spconv", **rest)
