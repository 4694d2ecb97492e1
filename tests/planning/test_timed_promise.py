"""The loop that solves and times, on models whose true times are known; nothing is run."""

import pytest

from saconv_surgeon.errors import UsageError
from saconv_surgeon.planning.budgets import parse_budget
from saconv_surgeon.planning.figures import Found
from saconv_surgeon.planning.plan_problem import Priced
from saconv_surgeon.planning.price_calibration import WholeTiming
from saconv_surgeon.planning.timed_promise import MOST_ROUNDS, solve_promised
from saconv_surgeon.records import LatencyRatio
from saconv_surgeon.records.budgeted_plan import Price
from tests.planning.test_choosing import Sum

LAYERS = 20
ORIGINAL = {"latency": 0.1, "trained_latency": 0.1, "parameters": 1e6, "macs": 1e9}


class World:
    """Stands in for measuring: ``truth`` gives what a choice adds to a figure; ``width`` is half of every interval."""

    def __init__(self, truth, width=0.002):
        self.truth, self.width, self.variants, self.timed = truth, width, self, []

    def choices(self, names):
        return dict(names)

    def original(self, figure):
        return ORIGINAL[figure]

    def variant(self, chosen, limits, draws=0):
        self.timed.append(chosen)
        return {figure: self.found(figure, chosen) for figure in limits}

    def found(self, figure, chosen):
        value = ORIGINAL[figure] + self.truth(figure, chosen)
        if figure not in ("latency", "trained_latency"):
            return Found(value)
        ratio = value / ORIGINAL[figure]
        return Found(value, LatencyRatio(ratio, ratio - self.width, ratio + self.width, "slower", 50, 0.01))


PRICES = {
    f"l{i}": {
        "contexts": Price(1000, 1000, 0.0005, 0.0006),
        "all": Price(50_000 + i, 10_000_000, 0.004 + 0.0002 * i, 0.005 + 0.0002 * i),
    }
    for i in range(LAYERS)
}
GAINS = Sum({path: {"contexts": 1.0 + 0.01 * i, "all": 3.0 + 0.1 * (i % 7)} for i, path in enumerate(PRICES)})


def alone(figure, chosen):
    of = {"latency": "latency_s", "trained_latency": "trained_latency_s"}.get(figure, figure)
    return sum(getattr(PRICES[path][name], of) for path, name in chosen.items())


def solved(world, *texts, gains=GAINS, prices=PRICES, timings=None):
    priced = Priced.of(prices, [parse_budget(text) for text in texts], world)
    return solve_promised(priced.calibrated(timings or {}), gains, world)


@pytest.mark.parametrize("limit", [1.05, 1.1, 1.3, 2.0])
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.5])
def test_the_promise_holds_and_little_is_left_over(limit, factor):
    world = World(lambda figure, chosen: factor * alone(figure, chosen))
    answer = solved(world, f"latency<{limit}x")
    (promise,) = answer.promises
    assert promise.kept
    assert promise.ratio.high <= limit * 1.005
    everything = dict.fromkeys(PRICES, "all")
    assert promise.found >= 0.96 * limit or answer.chosen == everything
    assert answer.rounds == len(world.timed) <= MOST_ROUNDS


def test_whole_models_that_were_timed_spare_rounds():
    world = World(lambda figure, chosen: 1.5 * alone(figure, chosen) + 0.0005 * len(chosen))
    wholes = [dict.fromkeys(PRICES, name) for name in ("contexts", "all")]
    timings = {"latency": [WholeTiming(w, world.truth("latency", w), 1e-4) for w in wholes]}
    assert solved(world, "latency<1.3x", timings=timings).rounds == 1
    assert solved(world, "latency<1.3x").rounds > 1


def test_a_layer_that_is_much_dearer_in_the_model_than_alone():
    """No factor explains that: what the model is measured to take decides."""
    world = World(lambda figure, chosen: alone(figure, chosen) + 0.02 * (chosen.get("l6") is not None))
    answer = solved(world, "latency<1.1x")
    assert answer.kept
    assert answer.promises[0].found <= 1.1


def test_several_budgets_at_once():
    world = World(lambda figure, chosen: alone(figure, chosen) * (1.3 if "latency" in figure else 1))
    answer = solved(world, "latency<1.5x", "trained_latency<1.6x", "parameters<+300k", "macs<1.05x")
    assert answer.kept
    by_figure = {p.budget.figure: p for p in answer.promises}
    assert by_figure["parameters"].found == alone("parameters", answer.chosen) <= 300_000
    assert by_figure["parameters"].predicted == by_figure["parameters"].found
    assert by_figure["macs"].found == pytest.approx(1 + alone("macs", answer.chosen) / 1e9)
    assert by_figure["latency"].ratio is not None
    assert by_figure["macs"].ratio is None


def test_a_count_that_turns_out_larger_than_its_price_is_solved_again():
    world = World(lambda figure, chosen: alone(figure, chosen) + 7 * len(chosen))
    answer = solved(world, "parameters<+265050")
    assert len(world.timed[0]) == LAYERS
    assert world.found("parameters", world.timed[0]).value - 1e6 > 265_050
    assert answer.kept
    assert answer.rounds > 1
    assert answer.promises[0].found <= 265_050


def test_units_of_promises():
    world = World(alone)
    answer = solved(world, "latency<130ms", "latency<+25ms")
    value, increase = answer.promises
    assert value.found == pytest.approx(0.1 + increase.found)
    assert increase.found == pytest.approx(alone("latency", answer.chosen))
    assert increase.found <= 0.025 * 1.005


def test_what_never_holds_is_said():
    """However few layers are converted, the model takes twice its time."""
    world = World(lambda figure, chosen: 0.1 * bool(chosen))
    answer = solved(world, "latency<1.3x")
    assert not answer.kept
    assert answer.chosen
    assert answer.promises[0].found == pytest.approx(2.0)
    assert 1 <= answer.rounds <= MOST_ROUNDS + 1  # and the cheapest layer


def test_an_interval_a_little_above_is_within_the_promise_but_not_the_first_answer():
    world = World(alone, width=0.02)
    answer = solved(world, "latency<1.3x")
    assert answer.kept
    assert answer.promises[0].ratio.high <= 1.3 * 1.03


def test_nothing_gains_anything():
    world = World(alone)
    gains = Sum({path: dict.fromkeys(names, 0.0) for path, names in PRICES.items()})
    answer = solved(world, "latency<1.3x", "parameters<+5k", gains=gains)
    assert (answer.chosen, answer.rounds, answer.kept) == ({}, 0, True)
    assert [p.found for p in answer.promises] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("latency<1.0x",), "latency<1.0x: nothing can be converted; the cheapest choice needs latency ×1.005"),
        (("parameters<+10",), "parameters<+10: nothing can be converted; the cheapest choice needs parameters +1 k"),
        (
            ("latency<1.001x", "parameters<+0"),
            "latency<1.001x with parameters<+0: nothing can be converted; the cheapest choice needs latency ×1.005 and "
            "parameters +1 k",
        ),
        (("latency<100.1ms",), "the cheapest choice needs latency 100.5 ms"),
        (("latency<1.3x", "macs<1.0x"), "the cheapest choice needs macs ×1.000001"),
    ],
)
def test_budgets_in_which_nothing_fits_name_the_nearest(texts, message):
    with pytest.raises(UsageError) as caught:
        solved(World(alone), *texts)
    assert message in str(caught.value)


def test_layers_that_make_the_model_faster_are_converted_at_one():
    prices = {path: {"contexts": Price(10, 10, -0.0002)} for path in PRICES}
    gains = Sum({path: {"contexts": 1.0} for path in PRICES})
    world = World(lambda figure, chosen: -0.0002 * len(chosen))
    answer = solved(world, "latency<1.0x", gains=gains, prices=prices)
    assert answer.kept
    assert len(answer.chosen) == LAYERS


def test_a_candidate_without_a_price_is_not_chosen_for_a_budget_of_it():
    prices = {**PRICES, "l3": {"all": Price(1, 1)}}
    answer = solved(World(alone), "latency<9x", prices=prices)
    assert "l3" not in answer.chosen
    assert len(answer.chosen) == LAYERS - 1


def test_before_giving_up_the_cheapest_layer_is_tried():
    """One layer is cheap in the model, although its price is as high as that of the others, which take far more than theirs."""
    prices = {path: {"all": Price(1, 1, 0.004)} for path in PRICES} | {"cheap": {"all": Price(1, 1, 0.0039)}}
    gains = Sum({path: {"all": 0.5 if path == "cheap" else 1.0} for path in prices})
    world = World(lambda figure, chosen: sum(0.003 if path == "cheap" else 0.08 for path in chosen))
    answer = solved(world, "latency<1.05x", gains=gains, prices=prices)
    assert answer.kept
    assert answer.chosen == {"cheap": "all"}
