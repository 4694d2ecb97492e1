"""Counting one model, and torch's own counter beside it."""

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.counting import count as counting


def torch_macs(model, *args, **kwargs):
    """Half of what ``FlopCounterMode`` counts, with attention in the open."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            model.eval()(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def count(model, *args, **kwargs):
    return counting.count(model, Inputs(args, kwargs))


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


N, C, K, H, W = 2, 6, 8, 10, 12


def same(a, b):
    return a[:2] == b[:2] and all(torch.equal(a[2][key], b[2][key]) for key in a[2])


R = torch.randn
