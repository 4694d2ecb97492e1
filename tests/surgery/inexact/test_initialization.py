"""Conversions that cannot preserve the function: where they start, on which data, and how much of the outputs they give."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import saconv_surgeon as surgeon
from saconv_surgeon.records import Plan, from_dict, to_dict
from tests.surgery.inexact.models import X, net, to_spconv


def test_conversion_says_that_it_is_not_equal_and_how_much_is_left(tmp_path):
    conversion = to_spconv()
    record = conversion.to_dict()
    assert not conversion.equivalence.passed
    assert conversion.acceptable
    assert record["preserves_function"] is False
    assert record["init"] == conversion.plan.init == "project"
    assert record["explained"]["source"] == "the example inputs and random ones like them"
    assert [layer["path"] for layer in record["explained"]["layers"]] == ["0", "3"]
    assert from_dict(Plan, to_dict(conversion.plan)) == conversion.plan
    surgeon.save(conversion, tmp_path / "out")  # without force
    restored = surgeon.restore(net(), tmp_path / "out")
    assert torch.equal(restored.eval()(X), conversion.model.eval()(X))


def test_the_original_and_the_example_are_left_alone():
    model, before = net().train(), {k: v.clone() for k, v in net().state_dict().items()}
    x = X.clone()
    to_spconv(model, x, data=[X, X])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(x, X)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "calibrate"}, "init 'calibrate' needs data"),
        ({"init": "best"}, "has no init 'best'; it has: project, calibrate, random"),
        ({"data": []}, "data has no batches"),
        ({"data": [X[:0]]}, "batch 0 of the data is empty"),
        ({"data": 3}, "data cannot be iterated over"),
        ({"data": X}, "data is a Tensor; needed: a list, a generator or a DataLoader"),
        ({"data": [X * math.nan]}, "batch 0 of the data holds values that are not finite"),
    ],
)
def test_starts_that_cannot_be(options, message):
    with pytest.raises(surgeon.UsageError, match=message):
        to_spconv(**options)


def test_data_that_the_model_does_not_take():
    with pytest.raises(surgeon.ModelError, match=r"batch 0 of the data, \(4, 3, 12, 12\) \(RuntimeError"):
        to_spconv(data=[X[:, :3]])


@pytest.mark.parametrize("options", [{"init": "project"}, {"data": [X]}])
def test_targets_that_preserve_the_function_need_no_start(options):
    with pytest.raises(surgeon.UsageError, match="starts as the function of its convolutions"):
        surgeon.convert(net(), X, **options)


def test_data_from_a_data_loader_with_labels():
    loader = DataLoader(TensorDataset(X.repeat(8, 1, 1, 1), torch.arange(32)), batch_size=4)
    found = to_spconv(data=loader).explained
    assert (found.calibrated_on, found.samples) == (24, 8)


def test_a_single_batch_is_divided_by_samples():
    found = to_spconv(data=[X]).explained
    assert (found.calibrated_on, found.samples) == (3, 1)
    assert found.source == "samples of the data that were left out of the calibration"


def test_a_single_sample_is_all_there_is():
    found = to_spconv(x=X[:1], data=[X[:1]]).explained
    assert (found.calibrated_on, found.samples) == (1, 1)
    assert found.source == "the data that it was calibrated on"


@pytest.mark.parametrize("init", ["calibrate", "random", "project"])
def test_a_checkpoint_gets_the_weights_that_were_reported(init, tmp_path):
    model, other = net(), net()
    with torch.no_grad():
        other[0].weight.mul_(1.5)
    data = [X, X.flip(0)] if init == "calibrate" else None
    conversion = to_spconv(model, init=init, data=data)
    checkpoint = {"epoch": 3, "ema": model, "model": other}
    notes = surgeon.save(conversion, tmp_path / "out.pt", checkpoint=checkpoint)
    saved = torch.load(tmp_path / "out.pt", weights_only=False)
    assert torch.equal(saved["ema"].eval()(X), conversion.model.eval()(X))
    if init != "random":
        assert not torch.equal(saved["model"].eval()(X), conversion.model(X))
    assert any("'model' has other weights" in note for note in notes) == (init == "calibrate")


def test_random_starts_follow_the_seed_and_leave_the_random_state():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    states = [to_spconv(init="random", seed=seed).model.state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(states[0]["0.gwc.weight"], states[1]["0.gwc.weight"])
    assert not torch.equal(states[0]["0.gwc.weight"], states[2]["0.gwc.weight"])
    assert not torch.equal(states[0]["0.pwc.weight"], states[0]["3.pwc.weight"])
    surgeon.SPConv2d.from_conv2d(nn.Conv2d(4, 4, 3, bias=False))


def test_plans_replay_with_their_init():
    plan = to_spconv(init="random").plan
    again = to_spconv(plan=plan)
    assert again.plan.init == again.explained.init == "random"
    with pytest.raises(surgeon.UsageError, match="init 'calibrate' needs data"):
        to_spconv(plan=to_spconv(data=[X, X]).plan)
    from dataclasses import replace

    with pytest.raises(surgeon.UsageError, match="has no init 'foo'"):
        to_spconv(plan=replace(plan, init="foo"))
