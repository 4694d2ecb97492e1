"""Gradient hooks and attributes on parameters go along with conversion, reversion, folding and copies."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs.parameter_extras import extras_of
from saconv_surgeon.models.tree.copying import copy_model
from tests import nets


def model():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)).eval()


@pytest.mark.parametrize("target", ["saconv", "aws"])
def test_gradient_masks_mask_on(target):
    m = model()
    m[0].weight.register_hook(lambda g: g * 0)
    m[0].bias.register_hook(lambda g: g * 0)
    converted = surgeon.convert(m, nets.X, target=target).model
    converted(nets.X).square().sum().backward()
    assert not converted[0].weight.grad.any()
    assert not converted[0].bias.grad.any()
    assert converted[1].weight.grad.any()


def test_accumulation_hooks_get_the_new_parameter():
    m, seen = model(), []
    m[0].weight.register_post_accumulate_grad_hook(seen.append)
    converted = surgeon.convert(m, nets.X).model
    converted(nets.X).sum().backward()
    assert [p is converted[0].weight for p in seen] == [True]
    again = surgeon.revert(converted)
    again(nets.X).sum().backward()
    assert seen[1] is again[0].weight


def test_hooks_on_frozen_parameters_stay_and_so_does_the_freezing():
    m = model()
    m[0].weight.register_hook(lambda g: g * 0)
    m[0].weight.requires_grad_(False)
    weight = surgeon.convert(m, nets.X).model[0].weight
    assert not weight.requires_grad
    weight.requires_grad_(True).sum().backward()
    assert not weight.grad.any()


def test_attributes_stay_where_they_are():
    m = model()
    marks = {
        "0.weight": "_no_weight_decay",
        "0.bias": "optim",
        "1.weight": "is_shared",
        "2.weight": "tensor_model_parallel",
    }
    for path, name in marks.items():
        setattr(m.get_parameter(path), name, {"lr": 0.1})
    converted = surgeon.convert(m, nets.X).model
    for made in (converted, surgeon.revert(converted), copy_model(m), surgeon.fold(converted, nets.X).model):
        found = {path: getattr(made.get_parameter(path), name) for path, name in marks.items()}
        assert found == {path: {"lr": 0.1} for path in marks}
    assert extras_of(converted[0].switch.weight) == ()


def test_attributes_that_point_into_the_model_point_into_the_copy():
    m = model()
    m[0].weight.owner = m[1]
    converted = surgeon.convert(m, nets.X).model
    assert converted[0].weight.owner is converted[1]


def test_one_hook_for_each_that_was_there():
    m, calls = model(), []
    for _ in range(2):
        m[0].weight.register_hook(lambda g: calls.append(1))
    surgeon.convert(m, nets.X).model(nets.X).sum().backward()
    assert len(calls) == 2


def test_what_is_lost_is_said():
    m = nn.Sequential(nn.Conv2d(8, 8, 3))
    m[0].weight._no_weight_decay = True
    with pytest.warns(
        UserWarning, match=r"0\.weight had _no_weight_decay, which a SPConv2d has no parameter for: lost"
    ):
        surgeon.convert(m, torch.randn(1, 8, 9, 9), target="spconv")
