"""Models to fold, trained a little."""

import copy

import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle
from tests.operators import operator  # noqa: F401 - a fixture

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Pair(nn.Module):
    """Convolution, norm, activation, twice; ``forward`` may be another."""

    def __init__(self, norm=nn.BatchNorm2d, **options):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), norm(8, **options)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), norm(8, **options)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(x)))


def trained(model, x=X, seed=0, **options):
    """A conversion of ``model`` whose layers and norms have moved, in training mode, as a training leaves it."""
    converted = surgeon.convert(model.eval(), x, **options).model
    for i, layer in enumerate(m for m in converted.modules() if isinstance(m, surgeon.ConvertedLayer)):
        oracle.shake(layer, seed=seed + i, size=0.1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in converted.modules():
            if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None:
                m.running_mean.uniform_(-0.5, 0.5, generator=generator)
                m.running_var.uniform_(0.5, 2, generator=generator)
    return converted.train()


def outputs(model, x=X):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(x)


def assert_equal(folding, model, x=X, within=1e-5):
    assert folding.equivalence.passed, folding.equivalence
    assert oracle.relative_error(folding.model(x), outputs(model, x).double()) < within


class Reader(Pair):
    """Uses the kernel of its layer by itself."""

    def forward(self, x):
        return super().forward(x) + nn.functional.conv2d(x, self.conv1.weight, padding=1)
