"""Batches of a user's data as inputs of the model, and as a loss sees them."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.data_batches import MOST, data_batches
from saconv_surgeon.models.running.inputs import Inputs
from tests import nets

X = torch.randn(4, 8, 12, 12, generator=torch.Generator().manual_seed(1))


def net():
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()).eval()


class Named(nn.Module):
    """Takes an image by its name."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3)

    def forward(self, pixels, labels=None):
        return self.conv(pixels)


def test_batches_of_a_data_loader_with_labels():
    loader = DataLoader(TensorDataset(X.repeat(8, 1, 1, 1), torch.arange(32)), batch_size=4)
    batches = data_batches(loader, Inputs.of(X), net())
    assert [batch.inputs.shapes for batch in batches] == [((4, 8, 12, 12),)] * 8
    assert batches[1].given[1].tolist() == [4, 5, 6, 7]


def test_endless_data_is_not_read_to_its_end():
    def endless():
        while True:
            yield X, "label"

    batches = data_batches(endless(), Inputs.of(X), net())
    assert len(batches) == MOST
    assert batches[0].given[1] == "label"


def test_batches_follow_the_example():
    example = Inputs.of(X.double().to(memory_format=torch.channels_last))
    (batch,) = data_batches([X], example, net().double())
    assert batch.inputs.tensors[0].dtype == torch.float64
    assert batch.inputs.tensors[0].is_contiguous(memory_format=torch.channels_last)


def test_without_an_example_batches_follow_the_model():
    (batch,) = data_batches([(X, torch.arange(4))], None, net().double())
    assert batch.inputs.tensors[0].dtype == torch.float64
    assert len(batch.inputs.tensors) == 1


def test_models_of_several_inputs_take_whole_batches():
    model = nets.TwoInputs()
    example = Inputs.of(nets.example(model))
    (batch,) = data_batches([example.args or dict(example.kwargs)], example, model)
    assert batch.inputs.shapes == example.shapes


@pytest.mark.parametrize("example", [None, Inputs.of(X)])
@pytest.mark.parametrize(
    ("model", "given", "names"),
    [
        (Named(), {"pixels": X, "labels": torch.arange(4)}, ["pixels", "labels"]),
        (Named(), {"pixels": X, "mask": torch.arange(4)}, ["pixels"]),
        (net(), {"id": torch.arange(4), "image": X, "mask": torch.ones(4, 12, 12)}, []),
    ],
)
def test_of_a_dict_the_model_gets_what_it_names(example, model, given, names):
    (batch,) = data_batches([given], example, model)
    assert list(batch.inputs.kwargs) == names
    assert batch.inputs.tensors[0].shape == X.shape
    assert batch.given.keys() == given.keys()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data has no batches"),
        ([X[:0]], "batch 0 of the data is empty"),
        (3, "data cannot be iterated over"),
        (X, "data is a Tensor; needed: a list, a generator or a DataLoader"),
        ([X, X * torch.inf], "batch 1 of the data holds values that are not finite"),
    ],
)
def test_data_that_is_none(data, message):
    with pytest.raises(surgeon.UsageError, match=message):
        data_batches(data, Inputs.of(X), net())


def test_data_that_the_model_does_not_take():
    with pytest.raises(surgeon.ModelError, match=r"batch 0 of the data, \(4, 3, 12, 12\) \(RuntimeError"):
        data_batches([X[:, :3]], Inputs.of(X), net())
