"""Models that are converted twice: one plan, which makes both of the original."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.records import Base
from tests import nets, oracle
from tests.surgery.test_mixed_plans import net


def twice(model, *, trained=False, x=nets.X, first=None, second=None):
    """``model`` with its layer 2 a switchable one, and its other kernels standardised after that."""
    once = surgeon.convert(model, x, **(first or {"include": ["2"]}))
    if trained:
        oracle.shake(once.model[2], 3)
    return once, surgeon.convert(once.model, x, **(second or {"target": "aws"}))


@pytest.mark.parametrize("trained", [False, True])
def test_one_plan_and_one_folder_hold_both_conversions(trained, tmp_path):
    model = net()
    once, both = twice(model, trained=trained)
    assert both.equivalence.bit_equal
    assert {s.path: both.plan.target_of(s)[0] for s in both.plan.sites if s.converts} == {
        "0": "aws",
        "2": "saconv",
        "4": "aws",
        "5": "aws",
    }
    assert [s.path for s in both.plan.sites if s.earlier] == ["2"]
    assert both.plan.ledger.balances
    surgeon.save(both, tmp_path / "out")
    for base in (net(), once.model):  # the original, and what the first conversion gave
        again = surgeon.restore(base, tmp_path / "out").eval()
        assert [type(m) for m in again] == [type(m) for m in both.model]
        with torch.no_grad():
            assert torch.equal(again(nets.X), once.model(nets.X))


def test_the_plan_of_both_makes_both_of_the_original():
    model = net()
    _, both = twice(model)
    at_once = surgeon.convert(model, nets.X, plan=both.plan)
    assert [type(m) for m in at_once.model] == [type(m) for m in both.model]
    assert not any(s.earlier for s in at_once.plan.sites)
    assert at_once.equivalence.bit_equal


def test_three_times_with_options_and_with_what_was_absorbed(tmp_path):
    model = net()
    once = surgeon.convert(model, nets.X, include=["0"], absorb=True, options={"parts": "contexts"})
    two = surgeon.convert(once.model, nets.X, include=["2"], options={"parts": "branches"})
    three = surgeon.convert(two.model, nets.X, include=["4"], target="spconv", options={"ratio": "1/4"})
    made = {s.path: three.plan.target_of(s) for s in three.plan.sites if s.converts}
    assert made == {
        "0": ("saconv", {"parts": "contexts"}),
        "2": ("saconv", {"parts": "branches"}),
        "4": ("spconv", {"ratio": "1/4"}),
    }
    assert dict(three.plan.sites[0].absorbs) == {"bn": "1"}
    oracle.shake(three.model[2], 1)
    surgeon.save(three, tmp_path / "out", force=True)
    again = surgeon.restore(net(), tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(again(nets.X), three.model(nets.X))


def test_a_layer_that_cannot_equal_its_convolution_may_be_the_earlier_one(tmp_path):
    first = {"target": "spconv", "include": ["2"]}
    once, both = twice(net(), first=first, second={"include": ["0"]})
    assert both.equivalence.bit_equal  # with the model as it was given
    assert both.plan.init == "project" and both.explained is None
    surgeon.save(both, tmp_path / "out")
    again = surgeon.restore(net(), tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(again(nets.X), once.model(nets.X))


def test_the_plan_of_the_first_conversion_tells_of_the_original():
    model = net()
    once = surgeon.convert(model, nets.X, include=["2"], target="spconv", base=Base(model="nets.py:net"))
    both = surgeon.convert(once.model, nets.X, earlier=once.plan, base=Base(model="out"))
    assert both.plan.base == once.plan.base
    sites = {s.path: s for s in both.plan.sites}
    assert sites["2"].arguments == {s.path: s for s in once.plan.sites}["2"].arguments
    assert sites["2"].added_parameters == {s.path: s for s in once.plan.sites}["2"].added_parameters


@pytest.mark.parametrize("second", ["saconv", "aws"])
def test_a_layer_is_not_taken_for_one_of_another_kind(second):
    model = net()
    once, both = twice(model)
    other = surgeon.convert(
        model, nets.X, include=["2"], target=second, options={"parts": "branches"} if second == "saconv" else {}
    )
    with pytest.raises(surgeon.ArtefactError, match=rf"'2' is {second}.* already, and the plan makes saconv of it"):
        surgeon.apply(other.model, both.plan)
    with pytest.raises(surgeon.ArtefactError, match="'2' is converted already; give the original model"):
        surgeon.apply(once.model, once.plan)


def test_layers_of_no_known_target_stay_refused():
    class Own(surgeon.ConvertedLayer):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return self.inner(x)

    model = net()
    model[2] = Own()
    conversion = surgeon.convert(model.eval(), nets.X, include=["0"])
    assert {s.path: s.reason_code for s in conversion.plan.sites}["2"] == "already-converted"
    assert conversion.converted == 1


def test_an_optimiser_and_a_way_back_know_both(tmp_path):
    model = net()
    once, both = twice(model)
    optimizer = torch.optim.SGD(once.model.parameters(), lr=0.1, momentum=0.9)
    surgeon.carry_optimizer(optimizer, once.model, both.model)
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in both.model.parameters()}
    back = surgeon.revert(both.model)
    assert [type(m) for m in back] == [type(m) for m in model]
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), model.state_dict().values(), strict=True))


def test_the_plan_of_the_first_conversion_edited_and_replayed_on_what_it_gave():
    once = surgeon.convert(net(), nets.X, include=["2"])
    oracle.shake(once.model[2], 3)
    sites = [replace(s, decision="convert", target="aws", options={}) if s.path == "5" else s for s in once.plan.sites]
    both = surgeon.convert(once.model, nets.X, plan=replace(once.plan, sites=tuple(sites)), earlier=once.plan)
    assert {s.path: both.plan.target_of(s)[0] for s in both.plan.sites if s.converts} == {"2": "saconv", "5": "aws"}
    assert both.equivalence.bit_equal
    sites = [replace(s, target="spconv", options={}) if s.path == "2" else s for s in sites]
    with pytest.raises(surgeon.UsageError, match="'2', but that cannot be done: already a SAConv2d"):
        surgeon.convert(once.model, nets.X, plan=replace(once.plan, sites=tuple(sites)))
