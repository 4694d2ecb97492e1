"""Convolutions, and images whose neighbouring pixels are correlated."""

import pytest
import torch
from torch import nn

CASES = [
    ((8, 6, 3), {"padding": 1}),
    ((8, 6, 3), {"padding": 1, "stride": 2}),
    ((7, 5, 3), {"padding": 1, "stride": 2}),
    ((8, 6, 5), {"padding": 4, "dilation": 2}),
    ((8, 6, 4), {"padding": 1, "stride": 2}),
    ((6, 4, 2), {"stride": 2}),
    ((6, 4, 3), {"padding": 1, "stride": 3}),
]


cases = pytest.mark.parametrize(("sizes", "options"), CASES, ids=str)


def convolution(sizes, options, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = nn.Conv2d(*sizes, **options)
        nn.init.normal_(conv.bias)
        return conv


def correlated(n, c, size, rho, seed=0):
    """Maps of unit variance whose pixels are correlated by rho^|Δ| along both axes, channels independent."""
    x = torch.randn(n, c, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for axis in (2, 3):
        rows = list(x.unbind(axis))
        for i in range(1, size):
            rows[i] = rho * rows[i - 1] + (1 - rho**2) ** 0.5 * rows[i]
        x = torch.stack(rows, axis)
    return x
