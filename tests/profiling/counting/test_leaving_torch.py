"""What is computed outside torch, or in another thread, is listed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from tests.profiling.counting.counted import Call, R, count


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: torch.from_numpy(x.numpy() @ x.numpy()), "torch.Tensor.numpy"),
        (lambda x: torch.from_numpy(np.asarray(x) @ np.asarray(x)), "torch.Tensor.__array__"),
        (lambda x: torch.from_numpy(np.from_dlpack(x).copy()), "torch.Tensor.__dlpack__"),
        (lambda x: x + x.data_ptr() * 0, "torch.Tensor.data_ptr"),
    ],
)
def test_tensors_that_leave_torch_are_listed(call, name):
    assert name in count(Call(call), R(3, 3)).uncounted_ops


def test_sizes_flags_and_single_values_may_leave():
    counted = count(Call(lambda x: x * float(x.sum().numpy()) + torch.arange(3).numpy().sum()), R(3))
    assert counted.uncounted_ops == {}


def test_modules_in_other_threads_are_listed():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x):
            with ThreadPoolExecutor(2) as pool, torch.no_grad():
                return [pool.submit(layer, x).result() for layer in (self.a, self.b)]

    counted = count(Parallel(), R(2, 3))
    found = counted.uncounted_ops["modules that run in another thread"]
    assert (found.calls, found.modules) == (2, ("a", "b"))
