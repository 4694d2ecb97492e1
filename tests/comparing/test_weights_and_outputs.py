"""Weights under other names, converted kernels, NaN; and where outputs begin to differ."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.comparing import outputs
from sample_models import tiny_resnet, tiny_segmenter


def diff(a, b, x):
    return surgeon.diff(a, b, x, timing=None)


class Net(nn.Module):
    def __init__(self, head="fc", extra=False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            *([nn.Identity()] if extra else []),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3),
        )
        self.add_module(head, nn.Conv2d(5, 7, 1))
        self.head = head

    def forward(self, x):
        return self.get_submodule(self.head)(self.body(x)).mean((2, 3))


X = torch.randn(4, 3, 8, 8)


def pair():
    """The same weights in a net with a renamed head and a layer more in the middle."""
    a, b = Net(), Net("top", extra=True)
    with torch.no_grad():
        for (_, p), (_, q) in zip(a.named_parameters(), b.named_parameters()):
            q.copy_(p)
    return a, b


def test_renamed_and_shifted_weights_are_equal():
    a, b = pair()
    found = diff(a, b, X)
    assert found.weights.equal == len(a.state_dict())
    assert not (found.weights.changed or found.weights.only_in_a or found.weights.only_in_b or found.weights.reshaped)
    assert found.outputs.bit_equal
    assert {(c.change, c.path) for c in found.structure} == {("added", "body.2"), ("renamed", "fc")}


def test_relative_change_by_hand_and_largest_first():
    a, b = pair()
    with torch.no_grad():
        b.top.weight.mul_(1.5)
        b.body[4].weight.mul_(0.9)
        a.body[0].bias.zero_()  # from zero there is no ratio: it stands first
    found = diff(a, b, X).weights
    assert [(c.name, c.name_b) for c in found.changed] == [
        ("body.0.bias", None),
        ("fc.weight", "top.weight"),
        ("body.3.weight", "body.4.weight"),
    ]
    assert found.changed[0].relative is None
    assert found.changed[0].why == "from zero"
    assert [c.relative for c in found.changed[1:]] == pytest.approx([0.5, 0.1], rel=1e-6)


def test_kernel_of_a_converted_layer_is_compared_with_the_original():
    a = tiny_resnet.build()
    conversion = surgeon.convert(a, tiny_resnet.example_inputs())
    found = diff(a, conversion.model, tiny_resnet.example_inputs()).weights
    assert not found.changed
    layer = conversion.model.layer2[0].conv1
    with torch.no_grad():
        layer.weight_gamma.mul_(2)  # the same weight, another kernel
    (changed,) = diff(a, conversion.model, tiny_resnet.example_inputs()).weights.changed
    assert (changed.name, changed.as_kernel) == ("layer2.0.conv1.weight", True)
    kernel, wanted = layer.standardised_weight().detach().double(), a.layer2[0].conv1.weight.detach().double()
    assert changed.relative == pytest.approx(float((kernel - wanted).norm() / wanted.norm()), rel=1e-9)


@pytest.mark.parametrize("swap", [False, True])
def test_absorbed_norms_are_the_same_tensors(swap):
    a, x = tiny_resnet.build().eval(), tiny_resnet.example_inputs()
    b = surgeon.convert(a, x, absorb=True).model
    found = diff(b, a, x) if swap else diff(a, b, x)
    assert not found.weights.changed
    one_sided = found.weights.only_in_b if swap else found.weights.only_in_a
    assert not one_sided
    assert found.outputs.bit_equal


def test_nan_and_infinities_are_named():
    a, b = pair()
    with torch.no_grad():
        b.top.weight[0, 0] = float("nan")
        b.top.bias[1] = float("inf")
        a.body[1].bias[2] = float("-inf")
        b.body[1].bias[2] = float("-inf")
    found = diff(a, b, X)
    assert found.weights.not_finite == (
        "body.1.bias: 1 infinite in A",
        "body.1.bias: 1 infinite in B",
        "top.weight: 1 NaN in B",
        "top.bias: 1 infinite in B",
    )
    assert {(c.name, c.why) for c in found.weights.changed} == {
        ("fc.weight", "with NaN or infinities"),
        ("fc.bias", "with NaN or infinities"),
    }
    assert any("NaN" in line and "in B" in line for line in found.outputs.not_finite)
    assert not found.outputs.bit_equal
    assert "NaN" in str(found.outputs.problems)


def test_nan_in_both_is_equal_and_named():
    a, b = pair()
    with torch.no_grad():
        a.fc.bias[0] = b.top.bias[0] = float("nan")
    found = diff(a, b, X)
    assert found.outputs.bit_equal
    assert [line.split(": ")[1] for line in found.outputs.not_finite] == ["4 NaN in A", "4 NaN in B"]


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


def test_layers_are_compared_in_as_many_passes_as_memory_wants(monkeypatch):
    a, b = tiny_resnet.build(), tiny_resnet.build()
    x = tiny_resnet.example_inputs()
    with torch.no_grad():
        b.layer1[0].conv2.weight.mul_(1.5)
    whole = diff(a, b, x).outputs.diverging
    monkeypatch.setattr(outputs, "LARGEST", 1)
    assert diff(a, b, x).outputs.diverging == whole
    assert whole[0].a == "layer1.0.conv2"


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
