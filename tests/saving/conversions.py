"""Models and conversions to save."""

from torch import nn

import saconv_surgeon as surgeon
from tests import nets


def converted(model=None, x=nets.X):
    return surgeon.convert(nets.chain() if model is None else model, x)


class Shared(nn.Module):
    """One convolution under two names, and two that share a kernel."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, padding=1)
        self.b = self.a
        self.x, self.y = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.y.weight = self.x.weight

    def forward(self, x):
        return self.y(self.x(self.b(self.a(x))))
