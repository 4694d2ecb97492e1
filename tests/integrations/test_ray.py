"""A sweep on a real, local Ray."""

import csv
import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.records import Timing

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray's own processes
]
pytest.importorskip("ray.tune")
import ray  # noqa: E402

from saconv_surgeon.integrations.ray import Case, profile_all, sweep, write, write_profiles  # noqa: E402

X = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", autouse=True)
def session():
    """One Ray for all tests: starting it takes longer than what they do with it."""
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()


@pytest.fixture(scope="module")
def plans():
    return {name: surgeon.convert(build(), X, include=include).plan for name, include in (("one", ["0"]), ("all", []))}


def trainer(log, fails=()):
    """Returns a training whose results are known: by plan, recipe and seed."""

    def train(case: Case):
        with log.open("a") as file:
            file.write(f"{case.key}\n")
        layers = sum(type(m).__name__ == "SAConv2d" for m in case.convert(build()).modules())
        if case.key in fails:
            raise ValueError("the loss is not finite")
        return {"accuracy": 0.5 + 0.1 * layers * case.recipe.get("factor", 1) + 0.01 * case.seed, "loss": 1.0}

    return train


def lines(log):
    return sorted(log.read_text().splitlines())


def test_plans_recipes_and_seeds_are_compared_and_what_failed_is_run_again(tmp_path, plans):
    log = tmp_path / "log"
    recipes = {"x1": {"factor": 1}, "x3": {"factor": 3}}
    options = {"metric": "accuracy", "recipes": recipes, "seeds": (0, 1), "at_once": 2}
    fails = ("one | x3 | 1",)
    first = sweep(trainer(log, fails), plans, tmp_path / "sweep", **options)
    assert len(lines(log)) == 12
    (failed,) = [trial for trial in first.trials if trial.value is None]
    assert (failed.plan, failed.recipe, failed.seed) == ("one", "x3", 1)
    assert failed.error == "ValueError: the loss is not finite"
    rows = {(row.plan, row.recipe): row for row in first.rows}
    assert list(rows)[:2] == [("untouched", "x1"), ("untouched", "x3")]
    assert rows["one", "x3"].failed == 1
    assert rows["one", "x3"].n == 1
    assert rows["one", "x3"].half_width is None
    assert rows["all", "x1"].gain == pytest.approx(0.2)
    assert rows["all", "x1"].half_width == pytest.approx(0, abs=1e-9)
    assert rows["untouched", "x1"].gain is None
    assert rows["untouched", "x1"].mean == pytest.approx(0.505)
    assert all(trial.metrics["loss"] == 1.0 for trial in first.trials if trial.value is not None)

    again = sweep(trainer(log), plans, tmp_path / "sweep", **options)
    assert len(lines(log)) == 13  # the one that failed
    assert all(trial.value is not None for trial in again.trials)
    done = sweep(trainer(log), plans, tmp_path / "sweep", **options)
    assert len(lines(log)) == 13
    assert done.rows == again.rows

    with pytest.raises(surgeon.UsageError, match="holds another sweep"):
        sweep(trainer(log), plans, tmp_path / "sweep", **options | {"seeds": (0, 1, 2)})


def test_latency_is_measured_and_the_front_is_drawn(tmp_path, plans):
    found = sweep(
        trainer(tmp_path / "log"),
        plans,
        tmp_path / "sweep",
        metric="accuracy",
        seeds=(0,),
        model=build(),
        example_inputs=X,
    )
    rows = {row.plan: row for row in found.rows}
    assert rows["all"].latency.median > 1
    assert rows["untouched"].on_front
    assert rows["all"].on_front
    for suffix in (".html", ".md", ".csv", ".json"):
        write(found, tmp_path / f"sweep{suffix}", "first")
    page = (tmp_path / "sweep.html").read_text()
    assert "accuracy against latency" in page
    assert "untouched" in page
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert record["schema"] == "saconv-surgeon/sweep/1"
    assert [row["plan"] for row in record["rows"]] == ["untouched", "one", "all"]
    with pytest.raises(surgeon.UsageError, match="of no known kind"):
        write(found, tmp_path / "sweep.txt")


@pytest.mark.parametrize(
    ("plans", "seeds", "message"),
    [
        ({}, (0,), "at least one plan"),
        ({"untouched": None}, (0,), "no plan is called 'untouched'"),
        ({"a|b": None}, (0,), r"names without \|"),
        ({"a": None}, (), "one seed"),
    ],
)
def test_mistakes_are_told(tmp_path, plans, seeds, message):
    plan = surgeon.convert(build(), X).plan
    with pytest.raises(surgeon.UsageError, match=message):
        sweep(lambda case: {}, dict.fromkeys(plans, plan), tmp_path / "sweep", metric="accuracy", seeds=seeds)
    assert not (tmp_path / "sweep").exists()


def fails():
    raise ValueError("no such architecture")


def test_candidates_are_profiled_as_one_by_one(tmp_path):
    candidates = {"small": build, "broken": fails, "by name": f"{__file__}:build"}
    found = profile_all(candidates, tmp_path / "candidates", example_inputs=X, timing=None)
    small, broken, named = found.candidates
    assert [c.name for c in found.candidates] == list(candidates)
    wanted = surgeon.profile(build(), X, name="small", timing=None)
    assert small.profile.layers == wanted.layers
    assert (small.profile.macs, small.profile.parameters) == (
        2 * 24 * 24 * (3 * 8 + 8 * 8) * 9,
        3 * 8 * 9 + 8 * 8 * 9 + 16,
    )
    assert (named.profile.macs, named.profile.flops) == (wanted.macs, wanted.flops)
    assert broken.profile is None
    assert broken.error == "ValueError: no such architecture"

    again = profile_all(candidates | {"broken": build}, tmp_path / "candidates", example_inputs=X, timing=None)
    assert again.candidates[1].profile.macs == wanted.macs
    assert again.candidates[0] == small
    with pytest.raises(surgeon.UsageError, match="holds another sweep"):
        profile_all(candidates, tmp_path / "candidates", example_inputs=X[:1], timing=None)
    with pytest.raises(surgeon.UsageError, match="no candidate"):
        profile_all([], tmp_path / "none")


def test_the_report_of_candidates(tmp_path):
    candidates = {"one": build, "two": build, "broken": fails}
    timing = Timing(budget_s=0.2, per_layer=False)
    found = profile_all(candidates, tmp_path / "candidates", example_inputs="2x3x24x24", timing=timing)
    for suffix in (".html", ".md", ".csv", ".svg", ".json"):
        write_profiles(found, tmp_path / f"candidates{suffix}")
    page = (tmp_path / "candidates.html").read_text()
    assert "Latency against MACs" in page
    assert "broken could not be profiled: ValueError: no such architecture" in page
    rows = list(csv.DictReader((tmp_path / "candidates.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["one", "two", "broken"]
    assert float(rows[0]["median_s"]) > 0
    assert rows[2]["macs"] == ""
    assert json.loads((tmp_path / "candidates.json").read_text())["schema"] == "saconv-surgeon/profiles/1"
