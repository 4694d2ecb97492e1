"""A sweep over plans, recipes and seeds.

::

    from saconv_surgeon.integrations.ray import Case, sweep

    def train(case: Case) -> dict[str, float]:           # runs in a process of its own
        model = case.convert(build_trained())            # the model as it is for the plan "untouched"
        ...                                              # train it on as case.recipe says, seeded with case.seed
        return {"accuracy": evaluate(model)}

    found = sweep(train, {"quarter": "plan.json", "all": "all.json"}, "sweeps/first", metric="accuracy",
                  recipes={"x1": {"new_lr": 1.0}, "x3": {"new_lr": 3.0}}, seeds=range(5),
                  model=build_trained(), example_inputs=images)
    write(found, "sweep.html")

Each plan is compared with the untouched model that the same recipe trained from the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from saconv_surgeon.comparing.sweep_summary import summarised
from saconv_surgeon.errors import UsageError
from saconv_surgeon.integrations.ray.trials import check_folder, reason_of, run_trials, write_report
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.planning.plan_latency import plan_latency
from saconv_surgeon.records import Plan, to_dict
from saconv_surgeon.records.sweep import UNTOUCHED, Direction, Sweep, SweepTrial
from saconv_surgeon.report.commands.sweep import sweep_report
from saconv_surgeon.surgery.plan_file import read_plan
from saconv_surgeon.surgery.rewriting import apply


@dataclass(frozen=True)
class Case:
    """One training of a sweep: a plan and its name, a recipe and its name, a seed. ``plan`` is None for the untouched model."""

    name: str
    plan: Plan | None
    recipe_name: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def convert(self, model: nn.Module) -> nn.Module:
        """A copy of ``model`` that is converted by the plan; ``model`` itself if there is none."""
        return model if self.plan is None else apply(model, self.plan)

    @property
    def key(self) -> str:
        """Its name among the cases of the sweep."""
        return f"{self.name} | {self.recipe_name} | {self.seed}"


def sweep(
    train: Callable[[Case], Mapping[str, float]],
    plans: Mapping[str, Plan | str | Path],
    folder: str | Path,
    *,
    metric: str,
    mode: Direction = "max",
    recipes: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Iterable[int] = (0, 1, 2),
    model: nn.Module | None = None,
    example_inputs: Any = None,
    resources: Mapping[str, float] | None = None,
    at_once: int = 0,
) -> Sweep:
    """Trains every plan, and the untouched model, with every recipe and seed; what is in ``folder`` already is not run again.

    Args:
        train: ``train(case)``, which trains and returns figures by name, ``metric`` among them. Ray pickles it.
        plans: Plans or their files, by name.
        folder: Where Ray keeps the trainings. Called again with the same cases, those that failed or did not end are run.
        metric: The figure that is compared.
        mode: Whether more or less of it is better.
        recipes: Settings by name, for ``train`` to follow; one empty recipe if None.
        seeds: Each is one training of every plan and recipe.
        model: The original, to time what each plan folds to beside it; None leaves latency out.
        example_inputs: What it is timed on.
        resources: Of one training, as Ray has them: ``{"cpu": 2, "gpu": 1}``. One core if None.
        at_once: The most trainings at one time; 0 for as many as the resources allow.

    Returns:
        One row for each plan and recipe, and all trainings; ``trials[i].error`` says why one failed.

    Raises:
        UsageError: A name is not usable, there is nothing to train, or ``folder`` holds another sweep.
    """
    known = {name: plan if isinstance(plan, Plan) else read_plan(Path(plan)) for name, plan in plans.items()}
    cases = _cases(known, recipes or {"": {}}, tuple(seeds))
    place = Path(folder).absolute()
    check_folder(
        place,
        {key: {"plan": None if c.plan is None else to_dict(c.plan), "recipe": c.recipe} for key, c in cases.items()},
    )
    latencies = {}
    if model is not None:
        original, inputs = opened(model, example_inputs)
        latencies = {name: plan_latency(original, inputs, plan) for name, plan in known.items()}
    trainable = _trainable(train, cases, metric)
    results = run_trials(trainable, list(cases), place, resources or {"cpu": 1}, at_once)
    trials = sorted(
        (_trial(result, cases, metric) for result in results), key=lambda trial: list(cases).index(_key(trial))
    )
    return summarised(trials, metric, mode, latencies)


def write(found: Sweep, path: str | Path, name: str = "sweep") -> None:
    """Writes a report, by suffix as ``--report`` has them: ``.html``, ``.md``, ``.csv``, ``.svg``, or ``.json`` for the record.

    Raises:
        UsageError: A suffix that is none of these.
        ModelError: The file cannot be written.
    """
    write_report(path, to_dict(found), sweep_report(found, name))


def _cases(
    plans: Mapping[str, Plan], recipes: Mapping[str, Mapping[str, Any]], seeds: tuple[int, ...]
) -> dict[str, Case]:
    if UNTOUCHED in plans or any("|" in name for name in (*plans, *recipes)):
        raise UsageError(f"plans and recipes have names without |, and no plan is called {UNTOUCHED!r}")
    if not plans or not seeds:
        raise UsageError("a sweep needs at least one plan and one seed")
    made = [
        Case(name, plan, recipe_name, dict(recipe), seed)
        for name, plan in ({UNTOUCHED: None} | dict(plans)).items()
        for recipe_name, recipe in recipes.items()
        for seed in seeds
    ]
    return {case.key: case for case in made}


def _trainable(
    train: Callable[[Case], Mapping[str, float]], cases: Mapping[str, Case], metric: str
) -> Callable[[str], Mapping[str, Any]]:
    def run(key: str) -> dict[str, float]:
        figures = {name: float(value) for name, value in train(cases[key]).items()}
        if metric not in figures:
            raise ValueError(f"train() returned {sorted(figures)}, and {metric!r} is not among them")
        return figures

    return run


def _trial(result: Any, cases: Mapping[str, Case], metric: str) -> SweepTrial:
    case = cases[result.config["case"]]
    figures = result.metrics or {}
    error = None if result.error is None else reason_of(result.error)
    value = figures.get(metric) if error is None else None
    own = {
        name: value
        for name, value in figures.items()
        if isinstance(value, float) and name not in ("time_total_s", "time_this_iter_s", "time_since_restore")
    }
    return SweepTrial(case.name, case.recipe_name, case.seed, value, own, figures.get("time_total_s"), error)


def _key(trial: SweepTrial) -> str:
    return f"{trial.plan} | {trial.recipe} | {trial.seed}"
