"""Null results and losses as such, and what was not run."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.payoff.sections.wording import Arm
from benchmarks.payoff.tables import Results
from benchmarks.payoff.words import ARM_WORDS, CHOICE_WORDS, NOT_RUN, RECIPE_WORDS, TASK_WORDS, run_tasks


def nothing_gained(results: Results) -> list[str]:
    """Every arm whose interval includes zero, and every arm that lost."""
    blocks = ["## When it does not"]
    for task in run_tasks(results):
        nothing, worse = [], []
        for recipe, arm in _arms(results, task):
            found = results.gain(task, recipe, arm)
            if found is None or found.half_width is None:
                continue
            if not found.shown:
                nothing.append(f"{_name(recipe, arm)} ({found.text()})")
            elif found.mean < 0:
                worse.append(f"{_name(recipe, arm)} ({found.text()})")
        blocks.append(
            f"**{TASK_WORDS[task].heading}.** No difference to the untouched model shown: {', '.join(nothing) or 'none'}. "
            f"Worse: {', '.join(worse) or 'none'}."
        )
    return blocks


def not_run(results: Results) -> list[str]:
    """Arms without results, with the reason, and what no arm is about."""
    missing = [
        f"{ARM_WORDS[arm].short}, {TASK_WORDS[task].short}: {why}"
        for (arm, task), why in NOT_RUN.items()
        if task in run_tasks(results) and not results.has(task, "adamw-x1", arm)
    ]
    general = "large models, large pictures, training from scratch, GPUs"
    return ["## Not run", "\n".join(f"* {line}" for line in (*missing, general))]


def _arms(results: Results, task: str) -> Iterator[Arm]:
    """All but the untouched model and single layers."""
    for known, recipe, arm in results.cells:
        if known == task and arm != "twin" and not arm.startswith("only-"):
            yield recipe, arm


def _name(recipe: str, arm: str) -> str:
    if arm.endswith("-quarter"):
        return f"a quarter of the price, {CHOICE_WORDS[arm.removesuffix('-quarter')]}"
    return ARM_WORDS[arm].short + ("" if recipe == "adamw-x1" else f" with {RECIPE_WORDS[recipe]}")
