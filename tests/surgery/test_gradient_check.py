"""The proof looks at layers while gradients are recorded. Oracle: layers that are wrong only then."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.surgery.gradient_check import moved_with_gradients

X = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def wrong(change):
    def forward(self, x):
        y = proper(self, x)
        return change(y) if torch.is_grad_enabled() else y

    proper = surgeon.SAConv2d.forward
    return forward


CHANGES = {
    "a bit": lambda y: y * (1 + 1e-6),
    "its memory format": lambda y: y.contiguous(memory_format=torch.channels_last),
    "one value": lambda y: y.clone().index_fill(3, torch.tensor([4]), 0.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_is_wrong_with_gradients_alone(change, monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)).eval()
    made = surgeon.convert(model, X)
    assert made.equivalence.bit_equal
    monkeypatch.setattr(surgeon.SAConv2d, "forward", wrong(CHANGES[change]))
    found = surgeon.convert(model, X).equivalence
    assert not found.bit_equal
    assert found.first_moved == "0"
    assert "with gradients on" in found.problems[0]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_layers_are_equal_with_gradients(mode):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding_mode="circular", padding=1),
    )
    for absorb in (False, True):
        converted = surgeon.convert(model, X, absorb=absorb).model
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert moved_with_gradients(model, converted, Inputs((X,)), ["0", "3"], 0, mode) == ()
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
