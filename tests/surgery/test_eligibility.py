"""Why convolutions are refused."""

import warnings

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import nets
from tests.models.running.writing_models import LowRank, MaxNorm, Replaced, Replaces
from tests.surgery.plans import decisions


def subclass(conv):
    return nets.Subclass(3, 3, 3, padding=1)


@pytest.mark.parametrize(
    ("model", "path", "code", "text"),
    [
        (nets.OneConv(kernel_size=1, padding=0), "conv", "kernel-1x1", "1×1 kernel: dilation has no effect"),
        (nets.OneConv(groups=3), "conv", "depthwise", "depthwise: dense contexts would outweigh it"),
        (nets.OneConv(subclass), "conv", "subclass", "Subclass: a subclass of Conv2d"),
        (nets.normed(), "conv", "parametrised", "parametrised"),
        (nets.hooked(), "conv", "hooks", "hooks that would be lost (forward_hooks)"),
        (nets.patched(), "conv", "patched-forward", "its forward was replaced"),
        (nets.Tied(), "a", "tied-weight", "tied to another module's"),
        (nets.Tied(), "b", "tied-weight", "tied to another module's"),
        (nets.Reader(), "conv", "weight-used-elsewhere", "its weight is used by the model as well"),
        (nets.Direct(), "conv", "bypassed", "the model uses its weight or forward directly"),
        (nets.Functional(), "::conv2d[0]", "functional", "F.conv2d, a functional call"),
        (nn.ConvTranspose2d(3, 3, 3), "", "not-conv2d", "ConvTranspose2d: only Conv2d is converted"),
        (nets.OneConv(padding_mode="reflect", dilation=3, padding=3), "conv", "map-too-small", "needs 10x10"),
        (surgeon.SAConv2d(3, 3, 3), "", "already-converted", "already a SAConv2d"),
    ],
)
def test_reason(model, path, code, text):
    x = nets.X[..., :9, :9] if code == "map-too-small" else nets.X
    site = decisions(model, x)[path]
    assert (site.decision, site.reason_code) == ("refuse", code)
    assert text in site.reason


def test_extra_state_on_the_convolution():
    model = nets.OneConv()
    model.conv.register_buffer("scale", torch.ones(1))
    assert "more than weight and bias: scale" in decisions(model)["conv"].reason


def test_old_style_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nets.OneConv(nn.utils.weight_norm)
    assert decisions(model)["conv"].reason_code == "parametrised"


def test_ordinary_convolution_is_converted_at_its_price():
    site = decisions(nets.chain())["2"]
    assert site.decision == "convert"
    assert site.reason is None
    kernel, c = 9 * 4 * 4, 4
    assert site.added_parameters == kernel + 2 * (c * c + c) + c + 1
    outputs, inputs = 2 * 12 * 12, 2 * 14 * 14
    assert site.added_macs == outputs * kernel + inputs * c + 2 * 2 * c * c


def test_held_outside_the_tree_is_refused_after_the_fact_and_the_rest_converted():
    conversion = surgeon.convert(nets.Held(), nets.X)
    sites = {site.path: site for site in conversion.plan.sites}
    assert sites["held"].reason_code == "held-outside-tree"
    assert sites["free"].converts
    assert type(conversion.model.held) is nn.Conv2d
    assert conversion.model.calls[0] is conversion.model.held
    assert conversion.equivalence.bit_equal
    assert conversion.plan.ledger.balances


def test_ledger_balances_on_every_net():
    for model in (nets.chain(), nets.Brackets(), nets.Held()):
        ledger = surgeon.convert(model, nets.X).plan.ledger
        assert ledger.executed + ledger.never_ran == ledger.converted + ledger.refused
        assert ledger.converted
    for model in (nets.Tied(), nets.Reader(), nets.Functional(), nets.hooked()):
        with pytest.warns(surgeon.NoEffectWarning, match="no convolution"):
            conversion = surgeon.convert(model, nets.X)
        assert conversion.converted == 0
        assert conversion.plan.ledger.balances


@pytest.mark.parametrize("kind", [LowRank, Replaced, MaxNorm, Replaces])
def test_weights_that_the_model_writes_to_stay(kind):
    """A converted layer computes its kernel from its weight: merging into that would not be what was merged."""
    x = torch.randn(1, 4, 9, 9)
    model = nn.Sequential(kind(), nn.Conv2d(4, 4, 3)).train()
    conversion = surgeon.convert(model, x)
    reasons = {site.path: site.reason_code for site in conversion.plan.sites}
    assert reasons["0.conv"] == "written-by-model"
    assert reasons["1"] is None
    assert conversion.equivalence.bit_equal
