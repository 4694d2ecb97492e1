"""Figures of cells by task, recipe, arm and seed, and their differences to the untouched model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.payoff.cells import RESULTS, read_cells
from benchmarks.payoff.recipes import parsed
from saconv_surgeon.comparing.paired_difference import Difference, difference

PERCENT = 100.0
Key = tuple[str, str, str]
"""Task, recipe, arm."""


@dataclass(frozen=True)
class Results:
    """All cells: by task, recipe and arm, and then by seed. ``prices``: by task, the record of its prices, if there is one."""

    cells: Mapping[Key, Mapping[int, Mapping[str, Any]]]
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path = RESULTS) -> Results:
        """All that there are."""
        found = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in root.glob("*/prices.json")}
        return cls.of(read_cells(root), found)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]], prices: Mapping[str, Mapping[str, Any]] | None = None) -> Results:
        """Of records as they are read."""
        found: dict[Key, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        for record in records:
            found[record["task"], record["recipe"], record["arm"]][int(record["seed"])] = record
        return cls(dict(found), prices or {})

    def has(self, task: str, recipe: str, arm: str) -> bool:
        """Whether some seed of it was run."""
        return (task, recipe, arm) in self.cells

    def some(self, task: str, recipe: str, arm: str) -> Mapping[str, Any]:
        """The record of some seed."""
        return next(iter(self.cells[task, recipe, arm].values()))

    def latency_shares(self, task: str) -> dict[str, float]:
        """The share of each layer, whole, in what all layers add to the latency of the folded model; empty without prices."""
        layers = self.prices.get(task, {}).get("layers", {})
        added = {path: max(0.0, layer["all"]["seconds"]) for path, layer in layers.items()}
        return {path: seconds / sum(added.values()) for path, seconds in added.items()}

    def metric(self, task: str, recipe: str, arm: str, size: str | None = None) -> dict[int, float]:
        """By seed, in percent."""
        own = self.cells.get((task, recipe, arm), {})
        return {seed: PERCENT * (r["by_size"][size] if size else r["metric"]) for seed, r in own.items()}

    def mean(self, task: str, recipe: str, arm: str, name: str) -> float | None:
        """Of a number in the records."""
        values = [r[name] for r in self.cells.get((task, recipe, arm), {}).values() if r[name] is not None]
        return sum(values) / len(values) if values else None

    def gain(self, task: str, recipe: str, arm: str, size: str | None = None) -> Difference | None:
        """Against the untouched model with the same optimizer."""
        return self.between(task, (parsed(recipe).plain.name, "twin"), (recipe, arm), size)

    def share(self, task: str, part: tuple[str, str], whole: tuple[str, str]) -> float | None:
        """The gain of ``part`` as a share of that of ``whole``, for seeds that both have; None if that is not positive."""
        common = self.metric(task, *part).keys() & self.metric(task, *whole).keys()
        twin = self.metric(task, parsed(part[0]).plain.name, "twin")
        gains = []
        for recipe, arm in (part, whole):
            own = self.metric(task, recipe, arm)
            gains.append(difference(twin, {seed: own[seed] for seed in common}))
        if gains[0] is None or gains[1] is None or gains[1].mean <= 0:
            return None
        return gains[0].mean / gains[1].mean

    def between(self, task: str, a: tuple[str, str], b: tuple[str, str], size: str | None = None) -> Difference | None:
        """Of ``b`` against ``a``, each a recipe and an arm."""
        return difference(self.metric(task, *a, size), self.metric(task, *b, size))


def text(found: Difference | None) -> str:
    """Of a table's cell: bold if the interval excludes zero."""
    if found is None:
        return "–"
    return f"**{found.text()}**" if found.shown else found.text()


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is text, the others are to the right."""
    line = "|".join(["---", *["---:"] * (len(head) - 1)])
    return "\n".join([f"| {' | '.join(head)} |", f"|{line}|", *[f"| {' | '.join(row)} |" for row in rows]])
