"""``docs/payoff.md`` and its pictures, made from the cells. Sentences are chosen by the figures.

python -m benchmarks.payoff.page
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.payoff.charts import intervals
from benchmarks.payoff.sections import SECTIONS
from benchmarks.payoff.tables import Results
from benchmarks.payoff.words import ARM_WORDS, RATE_X3, TASK_WORDS

DOCS = Path(__file__).parents[2] / "docs"
PICTURE = DOCS / "pictures" / "payoff.svg"
DRAWN = (
    ("adamw-x1", "twin-2x"),
    ("adamw-x1", "wider"),
    ("adamw-x1", "zero-branch"),
    ("adamw-x1", "contexts"),
    ("adamw-x1", "branches"),
    ("adamw-x1", "all"),
    ("adamw-x3", "contexts"),
    ("adamw-x3", "all"),
)


def picture(results: Results) -> str:
    """The main arms of each task."""
    groups = []
    for task, words in TASK_WORDS.items():
        rows = []
        for recipe, arm in DRAWN:
            found = results.gain(task, recipe, arm)
            if found is not None:
                rate = RATE_X3 if recipe == "adamw-x3" else ""
                rows.append((f"{ARM_WORDS[arm].short}{rate}", found))
        if rows:
            groups.append((f"{words.heading}: {words.measure}", rows))
    return intervals("Gain over the untouched model after the same steps", "points, 95 % intervals", groups)


def page(results: Results) -> str:
    """The whole page, in Markdown."""
    return "\n\n".join(part for section in SECTIONS for part in section(results)) + "\n"


def main() -> None:
    """Writes both."""
    results = Results.read()
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(results), encoding="utf-8")
    (DOCS / "payoff.md").write_text(page(results), encoding="utf-8")
    print(DOCS / "payoff.md")


if __name__ == "__main__":
    main()
