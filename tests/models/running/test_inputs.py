"""Inputs with other batch sizes."""

import pytest
import torch

from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.inputs import Inputs


@pytest.mark.parametrize(
    ("given", "batch", "shapes"),
    [
        (torch.randn(2, 3, 8, 8), 2, [(5, 3, 8, 8)]),
        ((torch.randn(2, 3, 8, 8), torch.randn(2, 7), torch.tensor(3.0)), 2, [(5, 3, 8, 8), (5, 7), ()]),
        ({"pixels": torch.randn(1, 3, 8, 8), "ids": torch.zeros(1, 4, dtype=torch.int64)}, 1, [(5, 3, 8, 8), (5, 4)]),
        ((torch.randn(2, 3, 8, 8), torch.randn(9, 4)), 2, [(5, 3, 8, 8), (9, 4)]),
        ([torch.randn(3, 8, 9), torch.randn(3, 6, 6)], 2, [(3, 8, 9), (3, 6, 6), (3, 8, 9), (3, 6, 6), (3, 8, 9)]),
        (torch.zeros(4, dtype=torch.int64), 4, [(5,)]),
        ((torch.zeros(2, 5, dtype=torch.int64), torch.randn(5, 4)), 2, [(5, 5), (5, 4)]),
    ],
    ids=["images", "several", "keywords", "others", "list", "indices", "indices and a table"],
)
def test_batches_of_inputs(given, batch, shapes):
    inputs = Inputs.of(given)
    assert inputs.batch == batch
    assert list(inputs.with_batch(5).shapes) == shapes
    assert inputs.with_batch(5).batch == 5
    assert list(inputs.with_batch(batch).shapes) == list(inputs.shapes)


def test_batches_repeat_the_samples_and_keep_the_layout():
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    (found,) = Inputs.of(x).with_batch(3).tensors
    assert torch.equal(found, x[[0, 1, 0]])
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_inputs_without_a_batch_say_so():
    with pytest.raises(UsageError, match="no batch to change"):
        Inputs.of(torch.tensor(1.0)).with_batch(2)
