"""The knapsack against all choices, one after the other."""

import itertools
import math
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saconv_surgeon.planning.knapsack import Item, nearest, solve

NUMBERS = st.integers(-3, 12).map(float) | st.floats(-1, 5, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def problems(draw):
    budgets = draw(st.integers(1, 3))
    items = [
        Item(f"layer{i}", name, draw(NUMBERS), tuple(draw(NUMBERS) for _ in range(budgets)))
        for i in range(draw(st.integers(0, 6)))
        for name in "abc"[: draw(st.integers(1, 3))]
    ]
    return items, tuple(draw(st.integers(0, 20).map(float)) for _ in range(budgets))


def brute_force(items, capacities):
    """The largest gain of any choice of items that gain something."""
    layers = {}
    for item in items:
        if item.gain > 0:
            layers.setdefault(item.path, [None]).append(item)
    best = 0.0
    for picked in itertools.product(*layers.values()):
        chosen = [item for item in picked if item is not None]
        if all(math.fsum(i.loads[k] for i in chosen) <= c + 1e-9 for k, c in enumerate(capacities)):
            best = max(best, math.fsum(i.gain for i in chosen))
    return best


@settings(max_examples=80, deadline=None)
@given(problems())
def test_nothing_gains_more(problem):
    items, capacities = problem
    chosen = solve(items, capacities)
    picked = [item for item in items if chosen.get(item.path) == item.name]
    assert len(picked) == len(chosen)
    assert all(item.gain > 0 for item in picked)
    for k, capacity in enumerate(capacities):
        assert math.fsum(item.loads[k] for item in picked) <= capacity + 1e-9
    assert math.fsum(item.gain for item in picked) == pytest.approx(brute_force(items, capacities), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_units_of_gains_and_loads_do_not_matter(scale):
    items = [Item("a", "x", 5 * scale, (5 / scale,)), Item("b", "x", 4 * scale, (3 / scale,))]
    items += [Item("c", "x", 3 * scale, (2 / scale,)), Item("c", "y", 3.5 * scale, (4 / scale,))]
    assert solve(items, (5 / scale,)) == {"b": "x", "c": "x"}
    assert solve(items, (7 / scale,)) == {"a": "x", "c": "x"}


def test_the_limit_holds_to_the_last_parameter():
    """The solver alone would allow a millionth more."""
    items = [Item(f"l{i}", "x", 1.0, (10_000_000.0 + i,)) for i in range(4)]
    assert len(solve(items, (20_000_000.0,))) == 1
    assert solve(items, (20_000_001.0,)) == {"l0": "x", "l1": "x"}


def test_of_two_that_gain_the_same_the_cheaper():
    items = [Item("a", "dear", 1.0, (3.0,)), Item("a", "cheap", 1.0, (1.0,)), Item("a", "middle", 1.0, (2.0,))]
    assert solve(items, (10.0,)) == {"a": "cheap"}


def test_what_gains_nothing_is_not_chosen_though_it_gives_back():
    items = [Item("a", "x", 0.0, (-5.0,)), Item("b", "x", -1.0, (-5.0,)), Item("c", "x", 1.0, (1.0,))]
    assert solve(items, (0.5,)) == {}
    assert solve(items, (1.0,)) == {"c": "x"}


def test_what_makes_the_model_faster_pays_for_others():
    items = [Item("a", "x", 0.1, (-1.0,)), Item("b", "x", 1.0, (1.0,))]
    assert solve(items, (0.0,)) == {"a": "x", "b": "x"}


def test_what_the_cheapest_needs():
    items = [Item("a", "x", 1.0, (2.0, 1.0)), Item("b", "x", 1.0, (3.0, 0.1))]
    assert nearest(items, (1.0, 5.0)) == (2.0, 5.0)
    assert nearest(items, (5.0, 0.0)) == (5.0, 0.1)
    assert nearest([], (1.0,)) is None


def test_nothing_is_written_to_standard_output(capfd):
    """Some versions of the solver print, whatever they are told, when an optimum has to be repaired."""
    draw = random.Random(1)
    for _ in range(4):
        items = [Item(f"l{i}", n, draw.random(), (draw.random(),)) for i in range(100) for n in "abc"]
        solve(items, (20.0,))
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"
