"""Pairs of models that differ in known ways."""

import torch
from torch import nn

import saconv_surgeon as surgeon


def diff(a, b, x):
    return surgeon.diff(a, b, x, timing=None)


class Net(nn.Module):
    def __init__(self, head="fc", extra=False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            *([nn.Identity()] if extra else []),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3),
        )
        self.add_module(head, nn.Conv2d(5, 7, 1))
        self.head = head

    def forward(self, x):
        return self.get_submodule(self.head)(self.body(x)).mean((2, 3))


X = torch.randn(4, 3, 8, 8)


def pair():
    """The same weights in a net with a renamed head and a layer more in the middle."""
    a, b = Net(), Net("top", extra=True)
    with torch.no_grad():
        for (_, p), (_, q) in zip(a.named_parameters(), b.named_parameters()):
            q.copy_(p)
    return a, b
