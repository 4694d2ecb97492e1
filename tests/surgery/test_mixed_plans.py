"""Plans whose layers become different things: applied, replayed and edited, against layers that were put in by hand."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.records import MIXED, Plan, from_dict, to_dict
from tests import nets
from tests.surgery.plans import plan_of

OWN = {"0": ("saconv", {}), "2": ("aws", {}), "4": ("spconv", {"ratio": "1/4"})}


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)),
    ).eval()


def with_own(plan, own):
    """``plan`` with targets of their own for some sites, as a user writes them into the JSON."""
    written = json.loads(json.dumps(to_dict(plan)))
    for site in written["sites"]:
        if site["path"] in own:
            target, options = own[site["path"]]
            site |= {"decision": "convert", "target": target, "options": options}
        else:
            site |= {"decision": "refuse"}
    return from_dict(Plan, written)


def by_hand(model):
    """What ``OWN`` makes of ``net()``, put in without a plan."""
    model = copy.deepcopy(model)
    model[0] = surgeon.SAConv2d.from_conv2d(model[0])
    model[2] = surgeon.ConvAWS2d.from_conv2d(model[2])
    model[4] = surgeon.SPConv2d.from_conv2d(model[4], ratio=0.25, init="project")
    return model


def test_each_layer_becomes_its_own_target_and_gives_what_layers_put_in_by_hand_give():
    model = net()
    made = surgeon.apply(model, with_own(plan_of(model), OWN))
    expected = by_hand(model)
    assert [type(m) for m in made] == [type(m) for m in expected]
    with torch.no_grad():
        assert torch.equal(made(nets.X), expected(nets.X))


@pytest.mark.parametrize("target", ["saconv", "aws", MIXED])
def test_convert_follows_a_mixed_plan_whatever_target_the_plan_itself_has(target):
    model = net()
    plan = replace(with_own(plan_of(model), OWN), target=target, options={})
    conversion = surgeon.convert(model, nets.X, plan=plan)
    assert [type(m) for m in conversion.model] == [type(m) for m in by_hand(model)]
    made = {site.path: conversion.plan.target_of(site)[0] for site in conversion.plan.sites if site.converts}
    assert made == {path: name for path, (name, _) in OWN.items()}
    assert conversion.plan.target == target and conversion.plan.init == "project"
    with torch.no_grad():
        assert torch.equal(conversion.model(nets.X), by_hand(model)(nets.X))


def test_what_a_layer_adds_is_counted_for_its_own_target():
    model = net()
    sites = {s.path: s for s in surgeon.convert(model, nets.X, plan=with_own(plan_of(model), OWN)).plan.sites}
    grown = {path: sum(p.numel() for p in by_hand(model)[int(path)].parameters()) for path in OWN}
    for path, count in grown.items():
        assert sites[path].added_parameters == count - sum(p.numel() for p in model[int(path)].parameters())
    assert sites["2"].added_macs == 0


def test_only_layers_that_cannot_equal_their_convolutions_are_fitted_and_explained():
    model = net()
    data = [torch.randn(4, 3, 16, 16) for _ in range(3)]
    conversion = surgeon.convert(model, nets.X, plan=with_own(plan_of(model), OWN), data=data)
    assert conversion.plan.init == "calibrate"
    assert [fit.path for fit in conversion.explained.layers] == ["4"]
    assert conversion.model[0].is_at_rest() and conversion.model[2].is_at_rest()
    assert not torch.equal(conversion.model(nets.X), by_hand(model)(nets.X))  # it was fitted


def test_a_mixed_plan_of_targets_that_preserve_has_no_init_and_changes_no_bit():
    model = net()
    own = {"0": ("aws", {}), "2": ("saconv", {}), "5": ("aws", {})}
    conversion = surgeon.convert(model, nets.X, plan=with_own(plan_of(model), own))
    assert conversion.plan.init is None and conversion.equivalence.bit_equal
    with torch.no_grad():
        assert torch.equal(conversion.model(nets.X), model(nets.X))
    with pytest.raises(surgeon.UsageError, match="'aws', 'saconv' start as the function of its convolutions"):
        surgeon.convert(model, nets.X, plan=with_own(plan_of(model), own), init="project")


def test_eligibility_is_asked_of_the_layers_own_target():
    model = net()
    own = {"5": ("aws", {})}  # 1×1, which the plan's own target, saconv, refuses
    conversion = surgeon.convert(model, nets.X, plan=with_own(plan_of(model), own))
    assert isinstance(conversion.model[5], surgeon.ConvAWS2d)
    with pytest.raises(surgeon.UsageError, match=r"the plan converts '5', but that cannot be done: 1×1 kernel"):
        surgeon.convert(model, nets.X, plan=with_own(plan_of(model), {"5": ("spconv", {})}))
    with pytest.raises(surgeon.UsageError, match=r"'4', but that cannot be done: 1 of its 8 channels"):
        surgeon.convert(model, nets.X, plan=with_own(plan_of(model), {"4": ("spconv", {"ratio": "1/8"})}))


@pytest.mark.parametrize(
    ("target", "options", "why"),
    [
        ("sponge", {}, "no conversion target 'sponge'"),
        ("saconv", {"ratio": "1/2"}, "'saconv' has no option 'ratio'"),
        ("spconv", {"ratio": "2"}, "ratio '2' of the target 'spconv': it is not between 0 and 1"),
        ("detectors", {}, "'detectors' is a mix of targets"),
        (MIXED, {}, "'mixed' is a mix of targets"),
    ],
)
@pytest.mark.parametrize("verb", ["apply", "convert"])
def test_a_target_or_option_that_there_is_not_is_one_message_that_names_the_layer(target, options, why, verb):
    model = net()
    plan = with_own(plan_of(model), {"0": ("aws", {}), "2": (target, options)})
    with pytest.raises(surgeon.UsageError) as error:
        surgeon.apply(model, plan) if verb == "apply" else surgeon.convert(model, nets.X, plan=plan)
    assert "'2'" in str(error.value) and why in str(error.value)


def test_a_refused_layer_may_name_what_is_not_here():
    model = net()
    plan = plan_of(model)
    sites = [replace(s, decision="refuse", target="sponge") if s.path == "2" else s for s in plan.sites]
    conversion = surgeon.convert(model, nets.X, plan=replace(plan, sites=tuple(sites)))
    assert type(conversion.model[2]) is nn.Conv2d and isinstance(conversion.model[0], surgeon.SAConv2d)


def test_a_layer_without_a_target_of_its_own_in_a_plan_that_has_none_is_named():
    model = net()
    plan = replace(plan_of(model), target=MIXED, options={})
    for use in (lambda: surgeon.apply(model, plan), lambda: surgeon.convert(model, nets.X, plan=plan)):
        with pytest.raises(surgeon.UsageError, match=r"'0'.*the site needs a target of its own"):
            use()


def test_options_alone_are_those_of_the_plans_own_target():
    model = net()
    plan = replace(plan_of(model), target="spconv", options={"ratio": "1/2"})
    sites = [replace(s, options={"ratio": "1/4"}) if s.path == "4" else s for s in plan.sites]
    sites = [replace(s, decision="convert" if s.path in "24" else "refuse") for s in sites]
    made = surgeon.apply(model, replace(plan, sites=tuple(sites)))
    assert (made[2].options()["ratio"], made[4].options()["ratio"]) == ("1/2", "1/4")


def test_what_a_layer_absorbs_depends_on_its_own_target():
    model = net()
    absorbing = surgeon.convert(model, nets.X, absorb=True).plan
    own = {"0": ("saconv", {}), "2": ("aws", {})}
    conversion = surgeon.convert(model, nets.X, plan=with_own(absorbing, own))
    assert isinstance(conversion.model[1], nn.Identity) and conversion.model[0].bn is not None
    broken = with_own(absorbing, {"0": ("aws", {})})
    for use in (lambda: surgeon.apply(model, broken), lambda: surgeon.convert(model, nets.X, plan=broken)):
        with pytest.raises(surgeon.SurgeonError, match="'0' absorb"):
            use()


def test_layers_that_preserve_are_proved_one_by_one_beside_others_that_cannot(monkeypatch):
    model = net()
    plan = with_own(plan_of(model), OWN)
    conversion = surgeon.convert(model, nets.X, plan=plan)
    assert conversion.equivalence.note == "the other 2 layers equal their convolutions, taken alone, to the bit"
    assert conversion.acceptable
    made = surgeon.ConvAWS2d.taking.__func__

    def wrong(cls, conv, **options):
        layer = made(cls, conv, **options)
        if cls is surgeon.ConvAWS2d:
            layer.weight_beta.data += 0.1
        return layer

    monkeypatch.setattr(surgeon.ConvAWS2d, "taking", classmethod(wrong))
    broken = surgeon.convert(model, nets.X, plan=plan)
    assert not broken.acceptable
    assert "'2' should equal its convolution and moves by" in broken.explained.problems[-1]
