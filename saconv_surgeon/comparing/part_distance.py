"""The cost of saying that one part became another, without regard to their names. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from saconv_surgeon.comparing.part_tree import Part

GAP = 1.0
"""What it costs to say that a part was added or removed."""
SIMILAR, DIFFERENT = 0.4, 1.5
"""What it costs to match two parts that have the class or the settings in common, or nothing."""


def own_distance(a: Part, b: Part) -> float:
    """Of two parts without their children: their class and settings."""
    if a.own == b.own:
        return 0.0
    alike = a.kind == b.kind or (a.settings and a.settings == b.settings)
    return SIMILAR if alike else DIFFERENT


def inner_distance(a: Part, b: Part) -> float:
    """Of the children of two parts, in any order: equal ones cancel out, then equal settings, then equal classes.

    The rest counts as added or removed.
    """
    left, right = a.inside - b.inside, b.inside - a.inside
    alike = _cancelled(left, right, lambda own: own.partition("(")[2].rstrip(")"))
    alike += _cancelled(left, right, lambda own: own.partition("(")[0])
    return SIMILAR * alike + GAP * (left.total() + right.total())


def _cancelled(left: Counter[str], right: Counter[str], key: Callable[[str], str]) -> int:
    """Takes away, from both, the parts that have a key in common, and says how many pairs."""
    mates: dict[str, list[str]] = {}
    for own in right.elements():
        mates.setdefault(key(own), []).append(own)
    pairs = 0
    for own in list(left.elements()):
        if key(own) and mates.get(key(own)):
            left[own] -= 1
            right[mates[key(own)].pop()] -= 1
            pairs += 1
    return pairs


def are_strangers(a: Part, b: Part) -> bool:
    """Whether two parts of different names have nothing in common that would make one the other."""
    return a.kind != b.kind and (a.settings != b.settings or not a.settings)
