"""At which rate new parts should learn, with two optimizers."""

from __future__ import annotations

from benchmarks.payoff.sections.wording import ALL, ALL_3, Arm, bullets, compared
from benchmarks.payoff.tables import Results, markdown, text
from benchmarks.payoff.words import RECIPE_WORDS, TASK_WORDS, run_tasks

SGD, SGD_3, SGD_10 = (("sgd-x1", "all"), ("sgd-x3", "all"), ("sgd-x10", "all"))
COMPARED: tuple[tuple[str, Arm, Arm], ...] = (
    ("AdamW, ×0.3 against ×1", ALL, ("adamw-x0.3", "all")),
    ("AdamW, ×3 against ×1", ALL, ALL_3),
    ("AdamW, ×10 against ×3", ALL_3, ("adamw-x10", "all")),
    ("SGD, ×3 against ×1", SGD, SGD_3),
    ("SGD, ×10 against ×3", SGD_3, SGD_10),
    ("Weight decay on new parts too, AdamW ×3", ALL_3, ("adamw-x3-decay", "all")),
)


def learning_rates(results: Results) -> list[str]:
    """A table of recipes, and what differs."""
    tasks = run_tasks(results)
    rows = []
    for recipe, words in RECIPE_WORDS.items():
        gains = [results.gain(task, recipe, "all") for task in tasks]
        if any(gains):
            rows.append([words, *map(text, gains)])
    said = [
        f"{words}: {compared(results, a, b)}"
        for words, a, b in COMPARED
        if any(results.has(task, *a) and results.has(task, *b) for task in tasks)
    ]
    return [
        "## At which rate?",
        "SAConv everywhere, each against the untouched model trained with the same optimizer. The rate of everything else is the "
        "same in all rows of an optimizer: for AdamW that of the first training, for SGD the best of several for the untouched "
        "model, on a seed that is not among these (`benchmarks/results/payoff/*/rates.json`).",
        markdown(["recipe", *(f"{TASK_WORDS[task].heading}, Δ {TASK_WORDS[task].measure}" for task in tasks)], rows),
        bullets(*said),
    ]
