"""The page says what the intervals allow: made here of figures whose answers are known."""

import pytest

from benchmarks.payoff.page import page, picture
from benchmarks.payoff.sections.wording import verdict
from benchmarks.payoff.tables import Results
from saconv_surgeon.comparing.paired_difference import Difference


def record(recipe, arm, seed, metric, **more):
    return {
        "task": "dense",
        "recipe": recipe,
        "arm": arm,
        "seed": seed,
        "metric": metric,
        "by_size": {"small": metric / 2, "large": metric},
        "parameters": 150,
        "parameters_before": 100,
        "macs_ratio": 1.5,
        "steps": 300,
        "device": "a processor",
        "chosen": None,
        **more,
    }


def results():
    """All gains exactly 2 points, give or take 0.1; the wider network loses 1; contexts differ by seed and show nothing."""
    jitter = (0.0, 0.001, -0.001)
    rows = [record("adamw-x1", "twin", s, 0.5 + 0.1 * s) for s in range(3)]
    rows += [record("adamw-x1", "all", s, 0.52 + 0.1 * s + jitter[s]) for s in range(3)]
    rows += [record("adamw-x3", "all", s, 0.54 + 0.1 * s + jitter[s]) for s in range(3)]
    rows += [record("adamw-x1", "wider", s, 0.49 + 0.1 * s + jitter[s]) for s in range(3)]
    rows += [record("adamw-x1", "contexts", s, 0.5 + 0.1 * s + 20 * jitter[s]) for s in range(3)]
    rows += [record("adamw-x3", "only-0", s, 0.53 + 0.1 * s, chosen={"stem": "all"}) for s in range(3)]
    rows += [record("adamw-x3", "depth-quarter", s, 0.52 + 0.1 * s + jitter[s]) for s in range(3)]
    rows += [record("adamw-x3", "plan-quarter", s, 0.53 + 0.1 * s + jitter[s]) for s in range(3)]
    prices = {"layers": {"stem": {"all": {"seconds": 1.0}}, "head": {"all": {"seconds": 3.0}}}}
    return Results.of(rows, {"dense": prices})


def test_gains_and_losses_are_told_from_nothing():
    text = page(results())
    assert "against the untouched model: dense **better** (+2.0 ± 0.2)" in text
    assert "| a wider network with the same function at the start | **−1.0 ± 0.2** |" in text
    assert "No difference to the untouched model shown: contexts (+0.0 ± 5.0)." in text
    assert "Worse: wider network (−1.0 ± 0.2)." in text
    assert "×3 against ×1: dense **better** (+2.0 ± 0.0)" in text


def test_budgets_are_shares_of_the_whole_gain():
    text = page(results())
    assert "| the deepest first, whole layers | **+2.0 ± 0.2** | 50 % | **+1.0 ± 0.0** | ×1.50 | 3 |" in text
    assert "| `plan`, its default | **+3.0 ± 0.2** | 75 % | – | ×1.50 | 3 |" in text


def test_a_share_is_of_the_seeds_that_both_have():
    rows = [record("adamw-x1", "twin", s, 0.5) for s in range(2)]
    rows += [record("adamw-x3", "all", 0, 0.6), record("adamw-x3", "all", 1, 0.9)]
    rows += [record("adamw-x3", "depth-quarter", 0, 0.55)]
    share = Results.of(rows).share("dense", ("adamw-x3", "depth-quarter"), ("adamw-x3", "all"))
    assert share == pytest.approx(0.5)


def test_single_layers_have_their_share_of_the_price():
    assert "| `stem` | **+3.0 ± 0.0** | ×1.50 | 25 % | 3 |" in page(results())


def test_a_page_of_little():
    few = [record("adamw-x1", "twin", 0, 0.5), record("adamw-x1", "all", 0, 0.6)]
    text = page(Results.of(few))
    assert "dense +10.0, one seed only" in text
    assert "dense not run" in text
    assert page(Results.of([])).startswith("# Does converting pay?")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Difference(1.0, 0.5, 5), "**better** (+1.0 ± 0.5)"),
        (Difference(-1.0, 0.5, 5), "**worse** (−1.0 ± 0.5)"),
        (Difference(1.0, 1.0, 5), "no difference shown (+1.0 ± 1.0)"),
        (Difference(3.0, None, 1), "+3.0, one seed only"),
        (None, "not run"),
    ],
)
def test_verdicts(found, said):
    assert verdict(found) == said


def test_the_picture_has_a_row_for_each_arm():
    drawn = picture(results())
    assert drawn.count("<circle") == 4 and "SAConv, new parts ×3" in drawn
