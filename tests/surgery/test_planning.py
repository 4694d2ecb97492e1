"""Which convolutions are converted, and the reason for each that is not."""

import warnings

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.records import Plan, from_dict, to_dict
from saconv_surgeon.surgery.inspect import make_plan
from saconv_surgeon.surgery.planning import Selection
from tests import nets


def decisions(model, x=nets.X, **options):
    return {site.path: site for site in surgeon.inspect(model, x, **options)}


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


def test_patterns_choose():
    found = decisions(nets.chain(), include=["*"], exclude=["0"])
    assert found["0"].reason == "excluded by '0'"
    assert found["2"].converts
    assert decisions(nets.chain(), include=["2"])["0"].reason_code == "not-included"


def test_patterns_see_aliases_and_are_case_sensitive():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.Second = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.first(x)

    assert decisions(Aliased(), include=["Sec*"])["first"].converts
    with pytest.raises(surgeon.UsageError):
        surgeon.inspect(Aliased(), nets.X, include=["sec*"])


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("layer3", "'layer3.*'"), ("layer3.0.conv9", "'layer3.0.conv1'"), ("*cnv1", "'layer3.0.conv1'")],
)
def test_pattern_that_matches_nothing_shows_near_names(pattern, near):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer3 = nn.Sequential(nn.ModuleDict({"conv1": nn.Conv2d(3, 3, 3)}))

        def forward(self, x):
            return self.layer3[0]["conv1"](x)

    with pytest.raises(surgeon.UsageError, match="matches none of the model's 1 convolutions") as raised:
        surgeon.inspect(Net(), nets.X, include=[pattern])
    assert near in str(raised.value)


@pytest.mark.parametrize("side", [224, 225, 223, 250])
def test_min_stride_counts_from_the_input(side):
    model = nn.Sequential(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(4)))
    found = decisions(model, torch.randn(1, 3, side, side), min_stride=8)
    assert [site.converts for site in found.values()] == [False, False, True, True]
    assert found["1"].reason == "its output is at stride 4, below 8"


def test_unknown_target():
    with pytest.raises(surgeon.UsageError, match="no conversion target 'sponge'; there is: aws, saconv, "):
        surgeon.inspect(nets.chain(), nets.X, target="sponge")


def plan_of(model, **selection):
    return make_plan(model, nets.X, selection=Selection(**selection))


def edited(plan, path, **change):
    sites = [{**site, **(change if site["path"] == path else {})} for site in to_dict(plan)["sites"]]
    return from_dict(Plan, {**to_dict(plan), "sites": sites})


def test_plan_survives_json():
    plan = plan_of(nets.chain())
    assert from_dict(Plan, to_dict(plan)) == plan


def test_plan_is_replayed_as_it_is():
    plan = plan_of(nets.chain(), include=("2",))
    assert surgeon.convert(nets.chain(), nets.X, plan=plan).plan.converted_paths == ("2",)


def test_edited_plan_may_refuse_and_may_overrule_a_choice():
    conversion = surgeon.convert(nets.chain(), nets.X, plan=edited(plan_of(nets.chain()), "0", decision="refuse"))
    assert conversion.plan.converted_paths == ("2",)
    model = nets.OneConv(groups=3)
    plan = edited(plan_of(model), "conv", decision="convert", reason=None, reason_code=None)
    assert surgeon.convert(model, nets.X, plan=plan).plan.converted_paths == ("conv",)


def test_edited_plan_cannot_do_what_cannot_be_done():
    model = nets.Tied()
    plan = edited(plan_of(model), "a", decision="convert")
    with pytest.raises(
        surgeon.UsageError, match="the plan converts 'a', but that cannot be done: its weight or bias is tied"
    ):
        surgeon.convert(model, nets.X, plan=plan)


def test_plan_of_another_model():
    plan = plan_of(nets.OneConv())
    with pytest.raises(surgeon.UsageError, match="1 convolutions that this model does not have, first 'conv'"):
        surgeon.convert(nets.chain(), nets.X, plan=plan)
