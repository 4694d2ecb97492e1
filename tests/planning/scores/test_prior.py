"""A score drawn towards what parts bring on average."""

import pytest

from saconv_surgeon.planning.choosing import Problem, choose
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.planning.scores.prior import SHARES, DrawnToPrior
from saconv_surgeon.records.budgeted_plan import Candidate

PARTS = [Candidate(name, "saconv", {"parts": name}) for name in ("contexts", "branches", "all")]
OFFERED = dict.fromkeys(("a", "b", "c", "d"), PARTS)


def score(contexts, branches):
    """Additive gains by part, for the layers that are given; a layer that is not has no known gain."""
    known = {
        path: {"contexts": contexts[path], "branches": branches[path], "all": contexts[path] + branches[path]}
        for path in contexts
    }
    return SumOfGains("promise", "nats", known)


def even(value):
    return dict.fromkeys(OFFERED, value)


SCORE = score({"a": 3.0, "b": 1.0, "c": 0.0, "d": 0.0}, even(3.0))


def test_the_score_says_where_and_the_prior_which_part():
    drawn = DrawnToPrior.of_candidates(SCORE, OFFERED)
    everything = 4.0 + 12.0
    assert drawn.of(dict.fromkeys(OFFERED, "all")) == pytest.approx(everything)
    assert drawn.of(dict.fromkeys(OFFERED, "contexts")) == pytest.approx(SHARES["contexts"] * everything)
    assert drawn.of(dict.fromkeys(OFFERED, "branches")) == pytest.approx(SHARES["branches"] * everything)
    assert drawn.of({"a": "contexts"}) == pytest.approx(SHARES["contexts"] * everything * (2 / 3 * 3 / 4 + 1 / 3 / 4))
    assert drawn.beside({"a": "all"}, "c", "contexts") == pytest.approx(SHARES["contexts"] * everything / 3 / 4)
    assert drawn.of({}) == 0.0


def test_a_whole_layer_is_its_contexts_and_what_branches_add():
    drawn = DrawnToPrior.of_candidates(SCORE, OFFERED)
    more = drawn.beside({"b": "all"}, "a", "all") - drawn.beside({"b": "all"}, "a", "contexts")
    assert more == pytest.approx((1 - SHARES["contexts"]) * 16.0 / 4)


def test_a_score_that_promises_nothing_stays_so():
    drawn = DrawnToPrior.of_candidates(score(even(0.0), even(0.0)), OFFERED)
    assert drawn.beside({}, "a", "all") == 0.0
    problem = Problem({p: {c.name: (1.0,) for c in PARTS} for p in OFFERED}, (10.0,))
    assert choose(problem, drawn) == {}


def test_a_layer_whose_gain_is_unknown_has_no_prior():
    drawn = DrawnToPrior.of_candidates(score({"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 1.0}), OFFERED)
    assert drawn.beside({}, "c", "all") is None
    assert drawn.why_unknown("c", "all") is not None
    assert drawn.of({"a": "all", "b": "all"}) == pytest.approx(6.0)


def test_contexts_everywhere_come_before_a_dear_whole_layer():
    drawn = DrawnToPrior.of_candidates(SCORE, OFFERED)
    cost = {"contexts": (1.0,), "branches": (10.0,), "all": (11.0,)}
    assert choose(Problem(dict.fromkeys(OFFERED, cost), (4.0,)), drawn) == dict.fromkeys(OFFERED, "contexts")
    chosen = choose(Problem(dict.fromkeys(OFFERED, cost), (14.0,)), drawn)
    assert sorted(chosen.values()) == ["all", "contexts", "contexts", "contexts"]


def test_where_only_whole_layers_are_offered_they_are_ranked():
    whole = dict.fromkeys(OFFERED, PARTS[2:])
    drawn = DrawnToPrior.of_candidates(SCORE, whole)
    assert drawn.of(dict.fromkeys(OFFERED, "all")) == pytest.approx(16.0)


def test_other_targets_are_as_the_score_has_them():
    offered = {"a": [*PARTS, Candidate("aws", "aws")]}
    known = SumOfGains("probe", "share", {"a": {"contexts": 0.1, "branches": 0.1, "all": 0.2, "aws": 0.5}})
    assert DrawnToPrior.of_candidates(known, offered).beside({}, "a", "aws") == pytest.approx(0.5)


def test_half_of_what_overlaps_counts_all_the_same():
    class Twins(SumOfGains):
        """Two layers that do the same."""

        def of(self, chosen):
            return max((super(Twins, self).of({path: name}) for path, name in chosen.items()), default=0.0)

    twins = Twins("promise", "nats", {p: {"contexts": 1.0, "branches": 1.0, "all": 2.0} for p in ("a", "b")})
    drawn = DrawnToPrior.of_candidates(twins, {"a": PARTS, "b": PARTS})
    one, both = drawn.of({"a": "contexts"}), drawn.of({"a": "contexts", "b": "contexts"})
    assert both == pytest.approx(2.0 * SHARES["contexts"])
    assert one == pytest.approx(both * (1 / 3 * 1 + 1 / 3 * 1 / 2 + 1 / 3 * 1 / 2))
