import json

import pytest

from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.planning.scores.overlapping import Effect, OverlappingGains
from saconv_surgeon.planning.scores.saved import gains_from_dict

KINDS = [
    SumOfGains("depth", "x", {"a": {"all": 2.0}}, {"a": {"aws": "why"}}),
    SumOfGains("probe", "x", {}),
    OverlappingGains(
        {"a": {"contexts": Effect((0.1, 0.3), 0.5)}}, {"a": {"all": ("contexts",)}}, {"b": {"all": "why"}}
    ),
]


@pytest.mark.parametrize("gains", KINDS, ids=lambda gains: gains.name)
def test_every_kind_comes_back(gains):
    again = gains_from_dict(json.loads(json.dumps(gains.to_dict())))
    assert again == gains
    assert again.of({"a": "all"}) == gains.of({"a": "all"})
    assert again.why_unknown("b", "all") == gains.why_unknown("b", "all")


@pytest.mark.parametrize("data", [{}, {"effects": 3}, {"name": "none of them", "unit": "x", "gains": {}}])
def test_other_data_are_refused(data):
    with pytest.raises(ArtefactError, match="these saved scores cannot be read"):
        gains_from_dict(data)
