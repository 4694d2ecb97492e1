"""The outputs of two models, and where they begin to differ."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.comparing import outputs
from sample_models import tiny_resnet, tiny_segmenter
from tests.comparing.pairs import X, diff, pair


def test_first_layer_that_diverges():
    a, b = pair()
    with torch.no_grad():
        b.body[4].weight[0].mul_(1.25)
    found = diff(a, b, X).outputs
    first = found.first_diverging
    assert (first.a, first.b) == ("body.3", "body.4")
    with torch.no_grad():
        x = a.eval().body[:3](X)
        left, right = a.body[3](x), b.eval().body[4](x)
    assert first.max_rel == pytest.approx(float((left - right).abs().max() / left.abs().max()), rel=1e-5)
    assert [d.a for d in found.diverging] == ["body.3", "fc"]
    assert found.layers_compared == 5


@pytest.mark.slow
def test_layers_are_compared_in_as_many_passes_as_memory_wants(monkeypatch):
    a, b = tiny_resnet.build(), tiny_resnet.build()
    x = tiny_resnet.example_inputs()
    with torch.no_grad():
        b.layer1[0].conv2.weight.mul_(1.5)
    whole = diff(a, b, x).outputs.diverging
    monkeypatch.setattr(outputs, "LARGEST", 1)
    assert diff(a, b, x).outputs.diverging == whole
    assert whole[0].a == "layer1.0.conv2"


@pytest.mark.slow
def test_absorbed_layers_diverge_where_they_are_changed():
    a, x = tiny_resnet.build().eval(), tiny_resnet.example_inputs()
    b = surgeon.convert(a, x, absorb=True).model
    with torch.no_grad():
        b.layer3[0].conv1.switch.bias.fill_(0.5)
    first = diff(a, b, x).outputs.first_diverging
    assert first.b == "layer3.0.conv1"
    assert first.a in ("layer3.0.bn1", "layer3.0.relu")


def test_top1_and_cosine_by_hand():
    class Fixed(nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor(logits))

        def forward(self, x):
            return self.logits

    a, b = [[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]], [[0.0, 1.0], [0.0, 4.0], [2.0, 1.0]]
    found = diff(Fixed(a), Fixed(b), torch.randn(3, 1)).outputs
    assert (found.top1, found.top1_of) == (pytest.approx(2 / 3), 3)
    p, q = torch.tensor(a).flatten().double(), torch.tensor(b).flatten().double()
    assert found.cosine == pytest.approx(float(p @ q / p.norm() / q.norm()), rel=1e-12)
    assert (found.max_abs, found.max_rel) == (2.0, pytest.approx(2 / 3))


def test_top1_of_pixels():
    a, b, x = tiny_segmenter.build(), tiny_segmenter.build(), tiny_segmenter.example_inputs()
    found = diff(a, b, x).outputs
    assert found.top1 == 1
    assert found.top1_of > 100


def test_models_are_left_as_they_were():
    a, b = pair()
    a.train()
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in (a, b)]
    with torch.no_grad():
        b.top.bias.add_(1)
        before[1]["top.bias"].add_(1)
    diff(a, b, X)
    assert a.training
    for model, state in zip((a, b), before):
        assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
        assert not any(m._forward_hooks for m in model.modules())
