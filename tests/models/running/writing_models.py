"""Models that write to their own weights, structure and attributes, when they are switched or run."""

import torch
from torch import nn
from torch.nn import functional as F


class LowRank(nn.Module):
    """Merges low-rank weights into the kernel in train(False), and takes them out in train(True)."""

    def __init__(self):
        super().__init__()
        self.conv, self.merged = nn.Conv2d(4, 4, 3, padding=1), False
        self.down, self.up = nn.Parameter(torch.randn(2, 36) * 0.1), nn.Parameter(torch.randn(4, 2) * 0.1)

    def delta(self):
        return (self.up @ self.down).view_as(self.conv.weight)

    def train(self, mode=True):
        super().train(mode)
        if mode is self.merged:
            self.conv.weight.data.add_(self.delta().detach(), alpha=-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x):
        return self.conv(x) if self.merged else F.conv2d(x, self.conv.weight + self.delta(), self.conv.bias, padding=1)


class Replaced(LowRank):
    """Puts another tensor behind the parameter."""

    def train(self, mode=True):
        nn.Module.train(self, mode)
        if mode is self.merged:
            self.conv.weight.data = self.conv.weight.data + self.delta().detach() * (-1 if mode else 1)
            self.merged = not mode
        return self


class NewParameter(LowRank):
    """Puts another parameter in the place of the first."""

    def train(self, mode=True):
        nn.Module.train(self, mode)
        if mode is self.merged:
            merged = self.conv.weight.detach() + self.delta().detach() * (-1 if mode else 1)
            self.conv.weight = nn.Parameter(merged)
            self.merged = not mode
        return self


class Reparametrized(nn.Module):
    """Three branches in training, one convolution in inference, as RepVGG; the branches are thrown away."""

    def __init__(self):
        super().__init__()
        self.three, self.one = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def train(self, mode=True):
        super().train(mode)
        if not mode and hasattr(self, "three"):
            self.fused = nn.Conv2d(4, 4, 3, padding=1)
            self.fused.weight.data = self.three.weight.data + F.pad(self.one.weight.data, [1, 1, 1, 1])
            self.fused.bias.data = self.three.bias.data + self.one.bias.data
            del self.three, self.one
        return self

    def forward(self, x):
        return self.fused(x) if hasattr(self, "fused") else self.three(x) + self.one(x)


class Caching(nn.Module):
    """Keeps the kernel of inference, counts its switches, fills lists, and freezes its norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.cache, self.log, self.switched, self.sums = None, [], 0, {"n": 0}
        self.seen = torch.zeros(3)

    def train(self, mode=True):
        super().train(mode)
        self.switched += 1
        self.cache = None if mode else self.conv.weight.detach() * 2
        self.norm.eval()
        self.norm.weight.requires_grad_(False)
        return self

    def forward(self, x):
        self.log.append(x.mean())
        self.sums["n"] += 1
        self.seen += 1
        return self.norm(self.conv(x))


class MaxNorm(nn.Module):
    """Limits its kernel in forward, in place and behind autograd's back."""

    def __init__(self):
        super().__init__()
        self.conv, self.tail = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        self.conv.weight.data.renorm_(2, 0, 0.3)
        with torch.no_grad():
            self.tail.weight.clamp_(-0.1, 0.1)
        return self.tail(self.conv(x))


class Replaces(MaxNorm):
    """As EEGNet does."""

    def forward(self, x):
        self.conv.weight.data = torch.renorm(self.conv.weight.data, 2, 0, 0.3)
        return self.tail(self.conv(x))
