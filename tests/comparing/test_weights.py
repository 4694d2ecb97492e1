"""The weights of two models: under other names, as converted kernels, with NaN."""

import pytest
import torch

import saconv_surgeon as surgeon
from sample_models import tiny_resnet
from tests.comparing.pairs import X, diff, pair


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
