"""Small awkward networks, one idea each. They take ``X`` unless ``example`` says otherwise."""

import os
from dataclasses import dataclass
from typing import NamedTuple

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


def example(net):
    """What to call ``net`` with: a tensor, a tuple or a dict."""
    return net.example() if hasattr(net, "example") else X


def conv3():
    """A convolution that changes no shape."""
    return nn.Conv2d(3, 3, 3, padding=1)


def root_conv():
    """The model is the convolution itself."""
    return conv3()


class SharedConv(nn.Module):
    """One convolution, two calls at one size."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        return self.conv(x) + self.conv(x.tanh())


class AliasedConv(nn.Module):
    """One convolution under two names, both called."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.a = conv3()
        self.b = self.a

    def forward(self, x):
        return self.b(self.a(x).relu())


class TwoSizes(nn.Module):
    """One convolution called on a map and on its half."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        return self.conv(x), self.conv(F.avg_pool2d(x, 2))


class ControlFlow(nn.Module):
    """The data decide which of two convolutions runs."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.above, self.below = conv3(), conv3()

    def forward(self, x):
        return self.above(x) if x.mean() > 0 else self.below(x)


class NeverRuns(nn.Module):
    """A registered convolution that forward does not call."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv, self.never = conv3(), conv3()

    def forward(self, x):
        return self.conv(x)


class StdConv(nn.Conv2d):
    """A subclass with a forward of its own: it standardises its kernel."""

    def forward(self, x):
        var, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (var + 1e-5).sqrt(), self.bias)


class SubclassConv(nn.Module):
    """Calls a convolution whose class changes what it computes."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = StdConv(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


class DictOutput(nn.Module):
    """The output is a nested dict."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        y = self.conv(x)
        return {"map": y, "more": {"mean": y.mean(), "sizes": [y.shape[-1]]}}


@dataclass
class Record:
    """What ``DataclassOutput`` gives."""

    map: torch.Tensor
    note: str


class DataclassOutput(nn.Module):
    """The output is a dataclass that holds a tensor and a string."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        return Record(self.conv(x), "kept")


class Pair(NamedTuple):
    """What ``NamedTupleOutput`` gives."""

    map: torch.Tensor
    mean: torch.Tensor


class NamedTupleOutput(nn.Module):
    """The output is a named tuple."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        y = self.conv(x)
        return Pair(y, y.mean())


class TwoInputs(nn.Module):
    """An image, and a mask that may be left out."""

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x, mask=None):
        return self.conv(x if mask is None else x * mask)

    def example(self):
        return {"x": X, "mask": (X[:, :1] > 0).to(X.dtype)}


class RandomOutput(nn.Module):
    """Noise from the global generator, in eval mode too: the same outputs from the same seed."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        y = self.conv(x)
        return y + torch.randn_like(y)


class OsRandom(nn.Module):
    """Noise from the operating system: no seed makes two calls equal."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()

    def forward(self, x):
        y = self.conv(x)
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(7), "little"))
        return y + torch.randn(y.shape, generator=generator)


class StatefulCounter(nn.Module):
    """Counts its calls in a buffer and adds the count to the output."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.conv = conv3()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.conv(x) + self.calls


class IndexedSequential(nn.Module):
    """Indexes its Sequential, whose own forward never runs and would give something else."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(conv3(), nn.BatchNorm2d(3), conv3())

    def forward(self, x):
        return self.layers[2](self.layers[0](x)) + x


class ConvInModuleDict(nn.Module):
    """Convolutions picked by key; one of them is not picked."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"near": conv3(), "far": conv3(), "spare": conv3()})

    def forward(self, x):
        return self.parts["near"](x) + self.parts["far"](x.tanh())


class WideChain(nn.Module):
    """``n`` convolutions one after the other."""

    INPUT = tuple(X.shape)

    def __init__(self, n=8):
        super().__init__()
        self.convs = nn.ModuleList(conv3() for _ in range(n))

    def forward(self, x):
        for conv in self.convs:
            x = conv(x).relu()
        return x


class BracketNames(nn.Module):
    """Bracketed attribute names, given by ``setattr`` and by ``add_module``."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        setattr(self, "blocks[red]", conv3())
        self.add_module("blocks[/red]", conv3())

    def forward(self, x):
        return getattr(self, "blocks[/red]")(getattr(self, "blocks[red]")(x))


class DropoutNet(nn.Module):
    """Dropout between two convolutions: random in training, not in eval mode."""

    INPUT = tuple(X.shape)

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = conv3(), nn.Dropout(0.5), conv3()

    def forward(self, x):
        return self.second(self.drop(self.first(x)))
