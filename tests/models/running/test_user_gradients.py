"""What wants a gradient and the gradients that are there: as before, whatever a forward does to them."""

import pytest
import torch
from torch import nn

from saconv_surgeon.models.running.state import preserved
from tests.verbs import VERBS

X = torch.randn(2, 3, 8, 8)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.net[3].requires_grad_(False)
        self.scale = torch.ones(1)
        self.net[1].weight.grad = torch.tensor([1.0, -2.0, 3.0, float("nan")])

    def forward(self, x):
        return self.net(x)


class Freezes(Plain):
    def forward(self, x):
        self.net[0].requires_grad_(False)
        return self.net(x)


class Thaws(Plain):
    def forward(self, x):
        self.net[3].requires_grad_(True)
        self.scale.requires_grad_(True)
        return self.net(x) * self.scale


class GoesBackward(Plain):
    def forward(self, x):
        with torch.enable_grad():
            self.net(x.detach()).square().mean().backward()
        return self.net(x)


class DropsGradients(Plain):
    def forward(self, x):
        self.zero_grad(set_to_none=True)
        return self.net(x)


class ZeroesGradients(Plain):
    def forward(self, x):
        self.zero_grad(set_to_none=False)
        return self.net(x)


class GathersHistory(Plain):
    def forward(self, x):
        with torch.enable_grad():
            self.scale.mul_(self.net[0].weight.mean() + 1)
        return self.net(x)


KINDS = [Freezes, Thaws, GoesBackward, DropsGradients, ZeroesGradients, GathersHistory]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::saconv_surgeon.NoEffectWarning")
def test_every_verb_leaves_gradients_alone(kind, verb):
    model = kind()
    gradient = model.net[1].weight.grad
    VERBS[verb](model, X)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["net.3.weight", "net.3.bias"]
    assert {n: p.grad for n, p in model.named_parameters() if p.grad is not None}.keys() == {"net.1.weight"}
    assert model.net[1].weight.grad is gradient
    assert gradient[:3].tolist() == [1.0, -2.0, 3.0]
    assert gradient[3].isnan()
    assert model.scale.is_leaf
    assert not model.scale.requires_grad
    assert model.scale.tolist() == [1.0]


def test_a_gradient_of_another_size_or_kind_is_put_back():
    """Parameters that are moved in a run get gradients that do not fit the parameter that was there before."""
    model = Plain()
    gradient = model.net[1].weight.grad
    with preserved(model):
        weight = model.net[1].weight
        weight.grad = None
        weight.data = torch.ones(7, dtype=torch.float64)
        weight.grad = torch.ones(7, dtype=torch.float64)
    assert model.net[1].weight.grad is gradient
    assert gradient.shape == model.net[1].weight.shape


def test_sparse_gradients():
    model = nn.Embedding(5, 2, sparse=True)
    model(torch.tensor([1, 3])).sum().backward()
    gradient, before = model.weight.grad, model.weight.grad.to_dense()
    with preserved(model), torch.enable_grad():
        model(torch.tensor([1, 4])).sum().backward()
    assert model.weight.grad is gradient
    assert torch.equal(gradient.to_dense(), before)
