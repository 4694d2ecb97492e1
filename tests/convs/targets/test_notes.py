"""What is said of standardised kernels that no norm follows."""

import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs.targets.target import Cost, Target
from saconv_surgeon.convs.targets.to_saconv import saconv_notes
from saconv_surgeon.convs.targets.to_saconv_deform import SACONV_DEFORM
from saconv_surgeon.records import ConvSite
from saconv_surgeon.report.sections.convolution_table import notes

X = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
FIXED = "no norm follows: training cannot change the scale and mean of its filters"


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        nn.Conv2d(8, 4, 1),
    ).eval()


def noted(model, **options):
    return {site.path: site.note for site in surgeon.inspect(model, X, **options) if site.note}


def test_aws_says_it_where_no_norm_follows():
    found = noted(net(), target="aws")
    assert list(found) == ["3", "5"]
    assert all(note.startswith(FIXED) and "gamma and beta are not trained" in note for note in found.values())


def test_what_is_said_is_so():
    """Whatever the kernel becomes, each filter keeps its mean and its deviation."""
    layer = surgeon.ConvAWS2d(4, 6, 3)
    before = layer.standardised_weight().detach().flatten(1)
    with torch.no_grad():
        layer.weight.mul_(torch.rand(6, 1, 1, 1) * 5 + 0.1).add_(torch.randn(6, 4, 3, 3))
    after = layer.standardised_weight().detach().flatten(1)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after.mean(1), before.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.std(1), before.std(1), rtol=1e-3, atol=1e-5)


def test_saconv_says_which_of_its_parts_can():
    assert list(noted(net())) == ["3"]  # 1×1 is not converted
    whole = noted(net())["3"]
    contexts = noted(net(), options={"parts": "contexts"})["3"]
    branches = noted(net(), options={"parts": "branches"})["3"]
    assert all(note.startswith(FIXED) for note in (whole, contexts, branches))
    assert [("weight_diff" in note, "contexts shift" in note) for note in (whole, contexts, branches)] == [
        (True, True),
        (False, True),
        (True, False),
    ]
    assert SACONV_DEFORM.note is saconv_notes


def test_a_whole_layer_can_by_its_wide_branch():
    layer = surgeon.SAConv2d(4, 4, 3, padding=1)
    with torch.no_grad():
        layer.switch.bias.fill_(0.5)
        layer.weight_diff.copy_(layer.weight)  # the wide branch's filters are twice as large
    x = torch.ones(1, 4, 9, 9)
    twice = 0.5 * nn.functional.conv2d(x, layer.weight, padding=1) + nn.functional.conv2d(
        x, layer.weight, padding=3, dilation=3
    )
    torch.testing.assert_close(layer(x) - layer.bias.view(1, -1, 1, 1), twice, rtol=1e-4, atol=1e-5)


def test_other_targets_say_nothing():
    assert noted(net(), target="spconv") == {}
    mine = Target("mine", nn.Conv2d, "", lambda *a: None, lambda *a: Cost(0, 0))
    assert mine.note(ConvSite("a", "Conv2d", 1, (), reaches_norm=False), {}) is None


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.b(self.a(x)) if float(x.detach().sum()) > -1e9 else x


@pytest.mark.parametrize("target", ["aws", "saconv"])
def test_nothing_is_said_if_it_is_not_known(target):
    assert noted(Untraceable().eval(), target=target) == {}


def test_a_plan_and_a_replayed_plan_have_it(tmp_path):
    conversion = surgeon.convert(net(), X, target="aws")
    surgeon.save(conversion, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "plan.json").read_text())["sites"]
    assert [site["path"] for site in found if site["note"]] == ["3", "5"]
    again = surgeon.convert(net(), X, plan=tmp_path / "out" / "plan.json").plan
    assert [site.path for site in again.sites if site.note] == ["3", "5"]


def test_an_older_plan_without_notes_is_read(tmp_path):
    plan = surgeon.convert(net(), X, target="aws").plan
    surgeon.save(surgeon.convert(net(), X, target="aws"), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "plan.json").read_text())
    for site in record["sites"]:
        del site["note"], site["reaches_norm"]
    (tmp_path / "old.json").write_text(json.dumps(record))
    again = surgeon.convert(net(), X, plan=tmp_path / "old.json").plan
    assert again.converted_paths == plan.converted_paths


def test_reports_have_one_line_for_all(tmp_path):
    plan = surgeon.convert(net(), X, target="aws").plan
    (said,) = notes(plan.sites)
    assert said.text.startswith(f"2 × {FIXED}")
    assert said.text.endswith("(3, 5)")
    assert notes(surgeon.convert(net(), X, target="spconv", init="project").plan.sites) == []
