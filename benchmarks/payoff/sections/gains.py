"""Whether it pays, for which objects, and which parts."""

from __future__ import annotations

from benchmarks.payoff.sections.wording import (
    ALL,
    ALL_3,
    BRANCHES,
    CONTEXTS,
    CONTEXTS_3,
    TWIN,
    TWIN_2X,
    WIDER,
    against_untouched,
    bullets,
    compared,
)
from benchmarks.payoff.tables import Results, markdown, text
from benchmarks.payoff.words import ARM_WORDS, RATE_X3, TASK_WORDS, run_tasks


def pays(results: Results) -> list[str]:
    """Against the untouched model and against the controls, with a table for each task."""
    tasks = run_tasks(results)
    blocks = [
        "## Does it pay?",
        bullets(
            f"SAConv everywhere against the untouched model: {against_untouched(results, ALL)}",
            f"The same with new parts at three times the rate: {against_untouched(results, ALL_3)}",
            f"At ×3 against the untouched model with twice the steps (about equal MACs): {compared(results, TWIN_2X, ALL_3)}",
            f"At ×3 against a wider network of about the same MACs: {compared(results, WIDER, ALL_3)}",
        ),
    ]
    for task in tasks:
        blocks += [f"### {TASK_WORDS[task].heading}", _arms_table(results, task)]
    return blocks


def _arms_table(results: Results, task: str) -> str:
    rows = []
    for arm, words in ARM_WORDS.items():
        for recipe in ("adamw-x1", "adamw-x3"):
            if arm != "twin" and results.has(task, recipe, arm):
                rows.append(
                    [words.long + (RATE_X3 if recipe == "adamw-x3" else ""), *_figures(results, task, recipe, arm)]
                )
    head = ["arm", f"Δ {TASK_WORDS[task].measure}", "large", "small", "MACs", "parameters", "steps", "n"]
    return markdown(head, rows)


def _figures(results: Results, task: str, recipe: str, arm: str) -> list[str]:
    gains = [results.gain(task, recipe, arm, size) for size in (None, "large", "small")]
    macs, parameters, before, steps = (
        results.mean(task, recipe, arm, field) for field in ("macs_ratio", "parameters", "parameters_before", "steps")
    )
    base = results.mean(task, *TWIN, "steps")
    return [
        *map(text, gains),
        f"×{macs:.2f}" if macs else "–",
        f"×{parameters / before:.2f}" if parameters and before else "–",
        f"×{steps / base:.2g}" if steps and base else "–",
        str(gains[0].n if gains[0] else 0),
    ]


def objects(results: Results) -> list[str]:
    """By size."""
    limits = [f"{TASK_WORDS[task].short} {TASK_WORDS[task].large}" for task in run_tasks(results)]
    return [
        "## For which objects?",
        "SAConv everywhere with new parts at ×3, measured on objects of one size alone. A digit is large if its longer side has "
        f"at least so many pixels: {', '.join(limits)}.",
        bullets(
            f"Large ones: {against_untouched(results, ALL_3, 'large')}",
            f"Small ones: {against_untouched(results, ALL_3, 'small')}",
        ),
    ]


def parts(results: Results) -> list[str]:
    """Contexts, branches, or both."""
    return [
        "## Which parts?",
        bullets(
            f"Contexts alone, which add next to no MACs: {against_untouched(results, CONTEXTS)}",
            f"Contexts alone at ×3: {against_untouched(results, CONTEXTS_3)}",
            f"Switch and wide branch without contexts: {against_untouched(results, BRANCHES)}",
            f"Everything against contexts alone: {compared(results, CONTEXTS, ALL)}",
            f"The same, both at ×3: {compared(results, CONTEXTS_3, ALL_3)}",
            f"Everything against switch and wide branch: {compared(results, BRANCHES, ALL)}",
        ),
    ]
