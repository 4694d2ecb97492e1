"""The sections of ``docs/payoff.md``, in order; each is a function of all results that returns blocks of Markdown."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.payoff.sections.gains import objects, parts, pays
from benchmarks.payoff.sections.introduction import introduction
from benchmarks.payoff.sections.layers import budgets, single_layers
from benchmarks.payoff.sections.learning_rates import learning_rates
from benchmarks.payoff.sections.nothing_gained import not_run, nothing_gained
from benchmarks.payoff.tables import Results

SECTIONS: tuple[Callable[[Results], list[str]], ...] = (
    introduction,
    pays,
    objects,
    parts,
    learning_rates,
    single_layers,
    budgets,
    nothing_gained,
    not_run,
)
