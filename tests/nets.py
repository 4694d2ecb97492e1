"""Small awkward networks, one idea each."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def chain():
    """Two convolutions, one norm: the plain case."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


class OneConv(nn.Module):
    """A single convolution under the name ``conv``, changed by ``change``."""

    def __init__(self, change=lambda conv: conv, **options):
        super().__init__()
        self.conv = change(nn.Conv2d(3, 3, **{"kernel_size": 3, "padding": 1, **options}))

    def forward(self, x):
        return self.conv(x)


class Subclass(nn.Conv2d):
    """A convolution with another name and the same behaviour."""


class Tied(nn.Module):
    """Two convolutions, one kernel."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


class Reader(nn.Module):
    """Calls its convolution and uses the kernel once more by hand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return F.conv2d(self.conv(x), self.conv.weight)


class Direct(nn.Module):
    """Calls ``forward`` of its convolution without calling the convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        return self.conv.forward(x)


class Held(nn.Module):
    """Calls a registered convolution through a plain list, and another one normally."""

    def __init__(self):
        super().__init__()
        self.held, self.free = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.calls = [self.held]

    def forward(self, x):
        return self.free(self.calls[0](x))


class Functional(nn.Module):
    """A convolution without a module."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(3, 3, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.kernel)


class Brackets(nn.Module):
    """Names that a markup language would eat."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict(
            {"[red]x": nn.Conv2d(3, 3, 3), "<b>&": nn.Conv2d(3, 3, 3), "[/]": nn.Conv2d(3, 3, 1)}
        )

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return x


def normed():
    """A parametrised kernel."""
    return OneConv(parametrizations.weight_norm)


def hooked():
    """A convolution with a hook that counts."""
    model = OneConv()
    model.conv.register_forward_hook(lambda module, args, output: None)
    return model


def patched():
    """A convolution whose forward was replaced on the object."""
    model = OneConv()
    model.conv.forward = lambda x: x
    return model
