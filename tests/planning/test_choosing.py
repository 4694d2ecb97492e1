"""Choices among candidates whose gains overlap, against all choices."""

import itertools
import math
import random

import pytest

from saconv_surgeon.planning.choosing import Problem, choose


class Sum:
    """Gains that add up."""

    def __init__(self, gains):
        self.gains = gains

    def of(self, chosen):
        return math.fsum(self.gains[path][name] for path, name in chosen.items())

    def beside(self, chosen, path, name):
        return self.gains[path][name]


class Roots:
    """Gains that overlap: each candidate brings amounts of four things, and of each thing the square root counts."""

    def __init__(self, amounts):
        self.amounts = amounts

    def of(self, chosen):
        totals = [sum(self.amounts[p][n][i] for p, n in chosen.items()) for i in range(4)]
        return sum(map(math.sqrt, totals))

    def beside(self, chosen, path, name):
        assert path not in chosen
        return self.of({**chosen, path: name}) - self.of(chosen)


def best_of_all(problem, gains):
    options = [[None, *names] for names in problem.loads.values()]
    choices = (
        {path: name for path, name in zip(problem.loads, picked, strict=True) if name is not None}
        for picked in itertools.product(*options)
    )
    return max(gains.of(chosen) for chosen in choices if problem.allows(chosen))


def drawn(seed, layers=5, budgets=1):
    draw = random.Random(seed)
    loads = {f"l{i}": {n: tuple(draw.random() for _ in range(budgets)) for n in "abc"} for i in range(layers)}
    return draw, Problem(loads, tuple(draw.uniform(0, 2.5) for _ in range(budgets)))


@pytest.mark.parametrize("seed", range(12))
def test_exact_if_gains_add_up(seed):
    draw, problem = drawn(seed, budgets=1 + seed % 2)
    gains = Sum({path: {n: draw.uniform(0, 1) for n in names} for path, names in problem.loads.items()})
    chosen = choose(problem, gains)
    assert problem.allows(chosen)
    assert gains.of(chosen) == pytest.approx(best_of_all(problem, gains), abs=1e-9)


def test_near_the_best_if_gains_overlap():
    shares = []
    for seed in range(25):
        draw, problem = drawn(seed)
        amounts = {
            path: {n: [draw.expovariate(1) * (draw.random() < 0.5) for _ in range(4)] for n in names}
            for path, names in problem.loads.items()
        }
        gains = Roots(amounts)
        chosen = choose(problem, gains)
        assert problem.allows(chosen)
        best = best_of_all(problem, gains)
        shares.append(gains.of(chosen) / best if best else 1.0)
    assert min(shares) > 0.9
    assert sum(shares) / len(shares) > 0.99


class Twins(Sum):
    """Two layers of which either alone brings everything."""

    def of(self, chosen):
        return float(any(path in ("a", "b") for path in chosen)) + 0.3 * ("c" in chosen)

    def beside(self, chosen, path, name):
        return self.of({**chosen, path: name}) - self.of(chosen)


def test_layers_that_stand_in_for_each_other_are_not_both_paid_for():
    problem = Problem({path: {"x": (1.0,)} for path in "abc"}, (2.0,))
    chosen = choose(problem, Twins({}))
    assert set(chosen) in ({"a", "c"}, {"b", "c"})
    roomy = choose(Problem(problem.loads, (9.0,)), Twins({}))
    assert len(roomy) == 2  # the other twin gains nothing beside it


@pytest.mark.parametrize("worthless", [0.0, -1.0, None, math.nan])
def test_a_candidate_that_gains_nothing_is_never_chosen(worthless):
    class Gains(Sum):
        def beside(self, chosen, path, name):
            return worthless if path == "a" else 1.0

        def of(self, chosen):
            return float(sum(1.0 if path != "a" else worthless or 0.0 for path in chosen))

    problem = Problem({"a": {"x": (-1.0,)}, "b": {"x": (1.0,)}}, (5.0,))
    assert choose(problem, Gains({})) == {"b": "x"}


def test_no_layers_no_budgets():
    assert choose(Problem({}, (1.0,)), Sum({})) == {}
    assert choose(Problem({"a": {"x": ()}}, ()), Sum({"a": {"x": 1.0}})) == {"a": "x"}


def test_a_start_is_kept_if_nothing_beats_it():
    class Only(Sum):
        """Gains that no candidate shows by itself."""

        def of(self, chosen):
            return 5.0 if set(chosen) == {"a", "b"} else 0.1 * ("c" in chosen)

        def beside(self, chosen, path, name):
            return self.of({**chosen, path: name}) - self.of(chosen)

    problem = Problem({path: {"x": (1.0,)} for path in "abc"}, (2.0,))
    assert choose(problem, Only({}), [{"a": "x", "b": "x"}]) == {"a": "x", "b": "x"}
    assert choose(problem, Only({}), [{"a": "x", "b": "x", "c": "x"}]) == {"c": "x"}  # the start does not fit
