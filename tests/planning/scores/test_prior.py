"""A score drawn towards what parts bring on average."""

import pytest

from saconv_surgeon.planning.choosing import Problem, choose
from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.planning.scores.prior import SHARES, DrawnToPrior
from saconv_surgeon.records.budgeted_plan import Candidate

PARTS = [Candidate(name, "saconv", {"parts": name}) for name in ("contexts", "branches", "all")]
OFFERED = dict.fromkeys(("a", "b", "c", "d"), PARTS)


def score(**gains):
    """Gains of ``all`` as given, of its parts half of it each; a layer that is not named has no known gain."""
    known = {path: {"contexts": g / 2, "branches": g / 2, "all": g} for path, g in gains.items()}
    return SumOfGains("promise", "nats", known)


def test_half_is_the_scores_and_half_is_even():
    drawn = DrawnToPrior.of_candidates(score(a=3.0, b=1.0, c=0.0, d=0.0), OFFERED)
    assert drawn.of(dict.fromkeys(OFFERED, "all")) == pytest.approx(4.0)
    assert drawn.of({"a": "all"}) == pytest.approx(0.5 * 3.0 + 0.5 * 4.0 / 4)
    assert drawn.beside({"a": "all"}, "c", "contexts") == pytest.approx(0.5 * 4.0 * SHARES["contexts"] / 4)
    assert drawn.of({}) == 0.0


def test_a_score_that_promises_nothing_stays_so():
    drawn = DrawnToPrior.of_candidates(score(a=0.0, b=0.0, c=0.0, d=0.0), OFFERED)
    assert drawn.beside({}, "a", "all") == 0.0
    problem = Problem({p: {c.name: (1.0,) for c in PARTS} for p in OFFERED}, (10.0,))
    assert choose(problem, drawn) == {}


def test_a_layer_whose_gain_is_unknown_has_no_prior():
    drawn = DrawnToPrior.of_candidates(score(a=3.0, b=1.0), OFFERED)
    assert drawn.beside({}, "c", "all") is None
    assert drawn.why_unknown("c", "all") is not None
    assert drawn.of({"a": "all", "b": "all"}) == pytest.approx(4.0)


def test_what_is_left_of_a_budget_is_spent_on_contexts_everywhere_first():
    drawn = DrawnToPrior.of_candidates(score(a=1.0, b=0.0, c=0.0, d=0.0), OFFERED)
    cost = {"contexts": (1.0,), "branches": (10.0,), "all": (11.0,)}
    chosen = choose(Problem(dict.fromkeys(OFFERED, cost), (14.0,)), drawn)
    assert chosen == {"a": "all", "b": "contexts", "c": "contexts", "d": "contexts"}


def test_other_targets_are_as_the_score_has_them():
    offered = {"a": [*PARTS, Candidate("aws", "aws")]}
    known = SumOfGains("probe", "share", {"a": {"contexts": 0.1, "branches": 0.1, "all": 0.2, "aws": 0.5}})
    assert DrawnToPrior.of_candidates(known, offered).beside({}, "a", "aws") == pytest.approx(0.25)
