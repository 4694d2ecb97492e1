import json

import torch
from torch import nn

from saconv_surgeon.planning.scores.baselines import depth, random, stages
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.surgery.inspect import make_plan
from tests.planning.scores.planted import ALL, BRANCHES, CONTEXTS

OFFERED = (CONTEXTS, BRANCHES, ALL)


def net():
    convs = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)]
    return nn.Sequential(*convs)


def problem():
    plan = make_plan(net(), torch.randn(1, 3, 65, 65))
    return plan, dict.fromkeys(plan.converted_paths, OFFERED)


def test_depth_is_the_place_in_the_order_of_calls():
    found = depth(*problem())
    assert [found.beside({}, path, "all") for path in "0123"] == [1.0, 2.0, 3.0, 4.0]
    assert found.of({"0": "all", "3": "all"}) == 5.0


def test_stages_are_those_at_stride_eight_and_more():
    """Maps of 32, 16, 8 and 4 from an image of 64."""
    plan = make_plan(net(), torch.randn(1, 3, 64, 64))
    found = stages(plan, dict.fromkeys(plan.converted_paths, OFFERED))
    assert [found.beside({}, path, "all") for path in "0123"] == [0.0, 0.0, 1.0, 1.0]


def test_parts_are_not_chosen_by_what_knows_whole_layers_only():
    for score in (depth, random, stages):
        found = score(*problem())
        assert found.beside({}, "0", "contexts") is None
        assert "whole layers" in found.why_unknown("0", "contexts")
        assert found.why_unknown("0", "all") is None
        assert found.why_unknown("elsewhere", "all") is not None


def test_random_numbers_are_the_same_for_a_seed_and_do_not_depend_on_the_others():
    plan, candidates = problem()
    a, b = random(plan, candidates, seed=1), random(plan, {"2": OFFERED}, seed=1)
    assert a.of({"2": "all"}) == b.of({"2": "all"})
    assert a.of({"2": "all"}) != random(plan, candidates, seed=2).of({"2": "all"})
    assert 0 < a.of({"2": "all"}) <= 1


def test_random_numbers_for_parts():
    plan, candidates = problem()
    found = random(plan, candidates, parts=True)
    assert len({found.of({path: c.name}) for path, offered in candidates.items() for c in offered}) == 12


def test_sums_leave_out_what_is_chosen_at_the_path():
    found = SumOfGains("depth", "x", {"a": {"all": 2.0, "half": 1.0}, "b": {"all": 3.0}})
    assert found.of({}) == 0
    assert found.beside({"a": "all", "b": "all"}, "a", "half") == 1.0
    assert found.of({"a": "half", "b": "all", "c": "all"}) == 4.0


def test_survives_json():
    found = random(*problem())
    assert SumOfGains.from_dict(json.loads(json.dumps(found.to_dict()))) == found
