"""The mix that DetectoRS makes of a backbone, against a list by hand; the operator of the deformable layers is the plain one."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs import deformable
from saconv_surgeon.convs.targets.mixes import MIXES, Mix, Rule
from saconv_surgeon.records import Plan, from_dict, to_dict
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.inspect import make_plan
from tests.operators import operator, whole_operator  # noqa: F401 - fixtures

X = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
STRIDES = {
    "stem": 2,
    "two": 4,
    "three": 8,
    "three_1x1": 8,
    "grouped": 8,
    "depthwise": 8,
    "five": 8,
    "valid": 8,
    "four": 16,
}


class Backbone(nn.Module):
    """Every kind of convolution that the mix treats differently, with the strides of a ResNet."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3)
        self.two = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.three = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.three_1x1 = nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.five = nn.Conv2d(8, 8, 5, padding=2)
        self.valid = nn.Conv2d(8, 8, 3)
        self.four = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.norm, self.act = nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x):
        x = self.depthwise(self.grouped(self.three_1x1(self.three(self.two(self.stem(x))))))
        return self.act(self.norm(self.four(self.valid(self.five(x)))))


def becomes(plan):
    return {s.path: plan.target_of(s)[0] for s in plan.sites if s.converts}


PUBLISHED = {
    **dict.fromkeys(("stem", "two", "three_1x1", "depthwise", "five", "valid"), "aws"),
    **dict.fromkeys(("three", "grouped", "four"), "saconv-deform"),
}


@pytest.mark.usefixtures("operator")
def test_detectors_is_deformable_in_the_stages_and_standardised_everywhere_else():
    model = Backbone().eval()
    conversion = surgeon.convert(model, X, target="detectors")
    assert becomes(conversion.plan) == PUBLISHED
    assert conversion.plan.target == "detectors"
    kinds = {"aws": surgeon.ConvAWS2d, "saconv-deform": surgeon.DeformableSAConv2d}
    for path, name in PUBLISHED.items():
        assert type(conversion.model.get_submodule(path)) is kinds[name]
    assert conversion.equivalence.passed
    again = surgeon.apply(model, conversion.plan)
    assert [type(m) for m in again.modules()] == [type(m) for m in conversion.model.modules()]


@pytest.mark.usefixtures("operator")
def test_why_a_layer_is_not_what_the_mix_has_for_it_first():
    said = {s.path: s.instead for s in make_plan(Backbone(), X, target="detectors").sites}
    assert {path for path, why in said.items() if why} == {"depthwise", "five", "valid"}
    assert said["five"] == "saconv-deform: deformable branches have offsets for 3×3 kernels only"
    assert said["valid"].startswith("saconv-deform: deformable branches need a padding equal to the dilation")
    assert "(--allow-depthwise)" in said["depthwise"]
    allowed = make_plan(Backbone(), X, target="detectors", selection=Selection(allow_depthwise=True))
    assert becomes(allowed)["depthwise"] == "saconv-deform"


def test_without_the_operator_all_becomes_aws_and_it_is_said_of_which(monkeypatch):
    monkeypatch.setattr(deformable, "missing_operator", lambda: "torchvision is not there")
    plan = make_plan(Backbone(), X, target="detectors")
    assert set(becomes(plan).values()) == {"aws"} and len(becomes(plan)) == len(STRIDES)
    reason = "saconv-deform: deformable branches need torchvision's deform_conv2d: torchvision is not there"
    assert [s.path for s in plan.sites if s.instead == reason] == [
        path for path, stride in STRIDES.items() if stride >= 8 and path != "three_1x1"
    ]


@pytest.mark.usefixtures("operator")
def test_the_mix_is_selected_from_as_a_target_is():
    chosen = Selection(include=("t*", "f*"), exclude=("five",), min_stride=8)
    plan = make_plan(Backbone(), X, target="detectors", selection=chosen)
    assert becomes(plan) == {"three": "saconv-deform", "three_1x1": "aws", "four": "saconv-deform"}
    assert {s.path: s.reason_code for s in plan.sites if not s.converts}["two"] == "min-stride"


@pytest.mark.usefixtures("operator")
def test_what_absorbs_is_what_can():
    sites = {s.path: s for s in surgeon.inspect(Backbone(), X, target="detectors", absorb=True)}
    assert dict(sites["four"].absorbs) == {"bn": "norm", "act": "act"}
    assert sites["five"].not_absorbed == "aws has no norm and activation of its own"


@pytest.mark.usefixtures("operator")
def test_a_plan_of_a_mix_is_replayed_and_edited():
    model = Backbone().eval()
    plan = from_dict(Plan, to_dict(make_plan(model, X, target="detectors")))
    assert becomes(surgeon.convert(model, X, plan=plan).plan) == PUBLISHED

    def edited(site):
        if site.path == "three":
            return replace(site, target="saconv", options={})
        if site.path == "two":
            return replace(site, decision="refuse", reason="by hand", reason_code=None)
        return site if site.path != "five" else replace(site, target=None, options=None)  # by the rules again

    changed = surgeon.convert(model, X, plan=replace(plan, sites=tuple(map(edited, plan.sites)))).plan
    assert becomes(changed) == {**{k: v for k, v in PUBLISHED.items() if k != "two"}, "three": "saconv"}


def test_options_go_to_the_targets_of_the_mix_that_have_them(monkeypatch):
    mix = Mix("both", "for a test", (Rule("spconv", spatial=True, min_stride=8), Rule("saconv", {"parts": "contexts"})))
    monkeypatch.setitem(MIXES, "both", mix)
    plan = make_plan(Backbone(), X, target="both", selection=Selection(options={"ratio": "1/4"}))
    made = {s.path: plan.target_of(s) for s in plan.sites if s.converts}
    assert made["three"] == made["five"] == ("spconv", {"ratio": "1/4"})
    assert made["two"] == made["stem"] == ("saconv", {"parts": "contexts"})
    assert made["grouped"] == ("saconv", {"parts": "contexts"})  # spconv refuses it
    other = make_plan(Backbone(), X, target="both", selection=Selection(options={"parts": "branches"}))
    assert {s.path: other.target_of(s) for s in other.sites}["two"] == ("saconv", {"parts": "branches"})
    with pytest.raises(
        surgeon.UsageError, match=r"no target of the mix 'both' \(spconv, saconv\) has an option 'size'"
    ):
        make_plan(Backbone(), X, target="both", selection=Selection(options={"size": "3"}))


def test_messages_about_mixes():
    with pytest.raises(surgeon.UsageError, match="no target of the mix 'detectors'"):
        surgeon.convert(Backbone(), X, target="detectors", options={"ratio": "1/4"})
    with pytest.raises(surgeon.UsageError, match="as the function of its convolutions"):
        surgeon.convert(Backbone(), X, target="detectors", init="project")
    with pytest.raises(surgeon.UsageError, match=r"there is: .*, detectors"):
        surgeon.convert(Backbone(), X, target="detector")
