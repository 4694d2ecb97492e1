"""The table of targets: options, refusals, costs, and targets of other packages."""

import sys
from fractions import Fraction

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon import Reason, Target
from saconv_surgeon.convs.targets.known_targets import TARGETS, find_target
from saconv_surgeon.convs.targets.recipe import Recipe
from tests import nets

X = torch.randn(2, 8, 13, 15, generator=torch.Generator().manual_seed(2))


def only_site(conv, target, **rest):
    (site,) = surgeon.inspect(conv, X[:, : conv.in_channels], target=target, **rest)
    return site


@pytest.mark.parametrize(
    ("target", "conv", "options", "code"),
    [
        ("spconv", nn.Conv2d(8, 8, 1), {}, "kernel-1x1"),
        ("spconv", nn.Conv2d(8, 8, 3, groups=8), {}, "depthwise"),
        ("spconv", nn.Conv2d(8, 8, 3, groups=2), {}, "grouped"),
        ("spconv", nn.Conv2d(3, 8, 3), {}, "few-channels"),
        ("spconv", nn.Conv2d(8, 8, 3), {"ratio": "1/8"}, "few-channels"),
        ("spconv", nn.Conv2d(8, 1, 3), {}, "few-channels"),
        ("spconv", nn.Conv2d(8, 8, 3, padding=2), {}, "padding"),
        ("spconv", nn.Conv2d(8, 8, 3, padding=3, stride=2), {}, "padding"),
        ("spconv", nn.Conv2d(8, 8, 3, padding=2, stride=2), {}, "padding"),
        ("aws", nn.Conv2d(8, 8, 1, groups=8), {}, "one-element-filters"),
        ("aws", nn.Conv2d(8, 8, 1), {}, None),
        ("aws", nn.Conv2d(8, 8, 3, groups=8), {}, None),
        ("spconv", nn.Conv2d(4, 3, 3), {}, None),
        ("spconv", nn.Conv2d(8, 8, 3), {"ratio": "1/4"}, None),
    ],
    ids=str,
)
def test_refusals_have_their_reasons(target, conv, options, code):
    site = only_site(conv, target, options=options)
    assert site.reason_code == code, site.reason
    assert site.converts == (code is None)


@pytest.mark.parametrize("target", ["saconv", "aws", "spconv"])
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 6, 3, padding=1),
        nn.Conv2d(8, 6, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(7, 5, (3, 5), padding=(1, 2), dilation=1),
        nn.Conv2d(8, 4, 4, stride=2, padding=1),
    ],
    ids=str,
)
def test_costs_are_what_the_counters_find(target, conv):
    x = X[:, : conv.in_channels]
    conversion = surgeon.convert(conv, x, target=target)
    (site,) = conversion.plan.sites
    before, after = (surgeon.profile(model, x, timing=None) for model in (conv, conversion.model))
    assert site.converts
    assert after.parameters - before.parameters == site.added_parameters
    assert after.macs - before.macs == site.added_macs
    assert after.cross_check.agrees
    assert not after.uncounted_ops


def test_spconv_costs_by_hand():
    """64 → 32, 3×3, at 1/4 on 8×8: 16 representative channels in two groups."""
    site = surgeon.inspect(
        nn.Conv2d(64, 32, 3, padding=1, bias=False), torch.randn(1, 64, 8, 8), target="spconv", options={"ratio": "1/4"}
    )[0]
    new = 2 * (9 * 8 * 16) + 16 * 32 + 48 * 32
    assert site.added_macs == 64 * (new - 9 * 64 * 32)
    assert site.added_parameters == new + 32 + 4 * 32 - 9 * 64 * 32


@pytest.mark.parametrize("text", ["1/4", "0.25", " 0.25 ", "2/8", "25e-2"])
def test_ratios_may_be_written_as_one_likes(text):
    plan = surgeon.convert(nn.Conv2d(8, 8, 3), X, target="spconv", options={"ratio": text}).plan
    assert plan.options == {"ratio": "1/4"}
    assert find_target("spconv").parse({"ratio": text}) == {"ratio": Fraction(1, 4)}


@pytest.mark.parametrize("text", ["0", "1", "-1/2", "1.5", "half", "1/0", "", "nan", "inf"])
def test_other_ratios_are_refused(text):
    with pytest.raises(surgeon.UsageError, match=r"of the target 'spconv': .*; needed: the share α"):
        surgeon.inspect(nn.Conv2d(8, 8, 3), X, target="spconv", options={"ratio": text})


def test_options_belong_to_their_target():
    with pytest.raises(surgeon.UsageError, match="the target 'saconv' has no option 'ratio'; it has: parts"):
        surgeon.inspect(nets.chain(), nets.X, options={"ratio": "1/2"})
    with pytest.raises(surgeon.UsageError, match="no option 'rate'; it has: ratio"):
        surgeon.inspect(nets.chain(), nets.X, target="spconv", options={"rate": "1/2"})


def test_unknown_target_lists_what_there_is():
    with pytest.raises(
        surgeon.UsageError,
        match="no conversion target 'x'; there is: acb, aws, dbb, dcnv2, dilated-reparam, refconv, "
        "repvgg, saconv, saconv-deform, spconv, wtconv",
    ):
        find_target("x")


def test_every_target_says_what_it_is():
    assert list(TARGETS)[:4] == ["saconv", "saconv-deform", "aws", "spconv"]
    assert list(TARGETS)[4:] == ["refconv", "dbb", "acb", "repvgg", "dilated-reparam", "wtconv", "dcnv2"]
    assert [name for name, t in TARGETS.items() if not t.preserves] == ["spconv"]
    assert all(t.summary for t in TARGETS.values())


# ------------------------------------------------------------------ targets of other packages

PLUGIN = '''
import torch
from torch import nn
from saconv_surgeon import ConvertedLayer, Cost, Option, Reason, Target

class Halved(ConvertedLayer):
    """A convolution in half precision of its channels' number: a silly layer."""
    def __init__(self, conv, times):
        super().__init__()
        self.inner, self.times = conv, times
    @classmethod
    def from_conv2d(cls, conv, **options):
        import copy
        return cls(copy.deepcopy(conv), options["times"])
    def options(self):
        return {"times": str(self.times)}
    def is_new(self, name):
        return False
    def forward(self, x):
        return self.inner(x) * self.times / self.times

def refuses(conv, shapes, options):
    assert set(options) == {"times", "allow_depthwise"}
    return Reason("strided", "it is strided") if conv.stride != (1, 1) else None

target = Target("halved", Halved, "for a test", refuses, lambda *_: Cost(0, 0), {"times": Option("2", int, "a whole number")})
misnamed = Target("other", Halved, "for a test", refuses, lambda *_: Cost(0, 0))
warm = Target("warm", Halved, "for a test", refuses, lambda *_: Cost(0, 0), target.options, ("its own way",))
nothing = 3
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package that offers targets, installed."""
    (tmp_path / "halved_plugin.py").write_text(PLUGIN)
    info = tmp_path / "halved_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halved-plugin\nVersion: 1.0\n")
    entries = {
        "halved": "halved_plugin:target",
        "misnamed": "halved_plugin:misnamed",
        "warm": "halved_plugin:warm",
        "nothing": "halved_plugin:nothing",
        "absent": "no_such_module:target",
        "saconv": "halved_plugin:target",
    }
    lines = [f"{name} = {place}" for name, place in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[saconv_surgeon.targets]", *lines, ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("halved_plugin", None)


def test_another_packages_target_is_one_word_away(plugin, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, stride=2))
    conversion = surgeon.convert(model, nets.X, target="halved", options={"times": "4"})
    assert [site.reason for site in conversion.plan.sites] == [None, "it is strided"]
    assert type(conversion.model[0]).__name__ == "Halved"
    assert conversion.equivalence.bit_equal
    assert conversion.plan.options == {"times": "4"}
    assert surgeon.inspect(conversion.model, nets.X)[0].reason == "already a Halved"
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(model, tmp_path / "out")
    assert restored[0].times == 4
    recipe = Recipe.of(restored[0])
    assert recipe.written() == {"target": "halved", "options": {"times": "4"}}
    assert Recipe.read(recipe.written()).make(model[0]).times == 4
    (row, _) = surgeon.profile(conversion.model, nets.X, timing=None).layers
    assert (row.type, row.path) == ("Halved", "0")
    assert list(surgeon.new_parameters(conversion.model)) == []


def test_another_packages_way_to_initialize_is_recorded_and_restored(plugin, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    conversion = surgeon.convert(model, nets.X, target="warm")
    assert conversion.plan.init == "its own way"
    surgeon.save(conversion, tmp_path / "out")
    assert type(surgeon.restore(model, tmp_path / "out")[0]).__name__ == "Halved"
    assert surgeon.convert(model, nets.X, plan=tmp_path / "out" / "plan.json", target="warm").plan.init == "its own way"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "is not a saconv_surgeon.Target of that name but 3"),
        ("misnamed", "is not a saconv_surgeon.Target of that name"),
        ("absent", r"cannot be imported \(ModuleNotFoundError: No module named 'no_such_module'"),
        (
            "x",
            "there is: absent, acb, aws, dbb, dcnv2, dilated-reparam, halved, misnamed, nothing, refconv, repvgg, saconv",
        ),
    ],
)
def test_broken_targets_are_named(plugin, name, message):
    with pytest.raises(surgeon.UsageError, match=message):
        find_target(name)


def test_no_package_replaces_a_target_of_ours(plugin):
    assert find_target("saconv").layer is surgeon.SAConv2d


def test_public_names_are_what_a_package_needs():
    assert Reason("a", "b").text == "b"
    assert Target is surgeon.Target
