"""Which convolutions are converted, and the reason for each that is not."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.records import Plan, from_dict, to_dict
from tests import nets
from tests.surgery.plans import decisions, plan_of


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
    with pytest.raises(surgeon.UsageError, match="no conversion target 'sponge'; there is: acb, aws, dbb, "):
        surgeon.inspect(nets.chain(), nets.X, target="sponge")


def edited(plan, path, **change):
    sites = [{**site, **(change if site["path"] == path else {})} for site in to_dict(plan)["sites"]]
    return from_dict(Plan, {**to_dict(plan), "sites": sites})


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
