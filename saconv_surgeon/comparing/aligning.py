"""Which part of one model is which of another: by path, then by what they are. Imports no torch.

Children with names are matched by name, the rest by what they are; if most names have shifted, as after an
insertion into ``block1``, ``block2`` …, by order. The numbers of a ``Sequential`` only say an order, so its children are aligned
as the lines of two texts are: with the fewest parts added, removed and changed (Needleman and Wunsch, 1970). What is then on
one side only and is the same in all its settings was moved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial

from saconv_surgeon.comparing.part_distance import GAP, are_strangers, inner_distance, own_distance
from saconv_surgeon.comparing.part_tree import Part

RENAMED, OTHER_WEIGHTS, SHIFTED = 0.25, 0.05, 1e-6
"""What another name costs, other weights (of each part), and another number."""
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", "Module", "GraphModule")
"""Classes that say nothing of what a model is."""
LARGEST_TABLE = 300_000
"""Pairs of children; above, runs of equal ones are looked for."""


@dataclass(frozen=True, eq=False)
class Match:
    """A part of A and its counterpart in B, either of which may be None. ``renamed`` does not apply to the parts inside."""

    a: Part | None
    b: Part | None
    renamed: bool = False

    @property
    def differs(self) -> bool:
        """Whether both are there and have another class or other settings."""
        return self.a is not None and self.b is not None and self.a.own != self.b.own


def align(a: Part, b: Part) -> list[Match]:
    """Every part of both in the order of A; what was added is at its place in B."""
    return _moves_found(list(_Aligner().roots(a, b)))


class _Aligner:
    """Remembers how far apart parts are: deep models repeat their blocks."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], float] = {}

    # -------------------------------------------------------------- how far apart

    def distance(self, a: Part, b: Part) -> float:
        """How much it costs to say that ``a`` became ``b``, whatever their names: 0 for the same."""
        key = (a.signature, b.signature)
        if key not in self.known:
            self.known[key] = 0.0 if key[0] == key[1] else own_distance(a, b) + inner_distance(a, b)
        if not (a.children or b.children):
            return self.known[key] + OTHER_WEIGHTS * (a.mark != b.mark)
        marks = (a.identity, b.identity)
        if marks not in self.known:
            self.known[marks] = OTHER_WEIGHTS * (a.marks - b.marks).total()
        return self.known[key] + self.known[marks]

    # -------------------------------------------------------------- top down

    def roots(self, a: Part, b: Part) -> Iterator[Match]:
        """The two models, one of which may have been wrapped into another."""
        wrapped = self._like(a, b) if a.kind != b.kind else None
        unwrapped = self._like(b, a) if a.kind != b.kind and wrapped is None else None
        if wrapped is not None:
            yield from (Match(None, p) for p in _around(b, wrapped))
            yield from self.pair(a, wrapped, renamed=True)
        elif unwrapped is not None:
            yield from (Match(p, None) for p in _around(a, unwrapped))
            yield from self.pair(unwrapped, b, renamed=True)
        else:
            yield from self.pair(a, b)

    def _like(self, model: Part, other: Part) -> Part | None:
        """The part of ``other`` that is ``model``."""
        if not model.kind or not model.children:
            return None
        same = [p for p in other.walk() if p.kind == model.kind and p.path and p.size > model.size / 2]
        nearest = min(same, key=partial(self.distance, model), default=None)
        near = nearest is not None and self.distance(model, nearest) < model.size / 2
        return (
            nearest if near or model.kind not in CONTAINERS else None
        )  # the user's own class is kept, even if its content changed

    def pair(self, a: Part, b: Part, *, renamed: bool = False) -> Iterator[Match]:
        """Two parts that are each other, then what is inside."""
        yield Match(a, b, renamed)
        sequence = a.is_sequence and b.is_sequence
        for left, right in self._children(a.children, b.children, sequence):
            if left is None:
                assert right is not None
                yield from (Match(None, part) for part in right.walk())
            elif right is None:
                yield from (Match(part, None) for part in left.walk())
            else:
                yield from self.pair(left, right, renamed=left.name != right.name and not sequence)

    def _children(
        self, a: Sequence[Part], b: Sequence[Part], sequence: bool
    ) -> Sequence[tuple[Part | None, Part | None]]:
        if sequence:
            return self._by_order(a, b, SHIFTED)
        if [(p.name, p.signature) for p in a] == [(p.name, p.signature) for p in b]:
            return list(zip(a, b, strict=True))
        by_name, by_order = self._by_name(a, b), self._by_order(a, b, RENAMED)
        return by_name if self._cost(by_name) <= self._cost(by_order) else by_order

    def _cost(self, pairs: Sequence[tuple[Part | None, Part | None]]) -> float:
        total = 0.0
        for p, q in pairs:
            if p is not None and q is not None:
                total += self.distance(p, q) + (RENAMED if p.name != q.name else 0.0)
            else:
                total += GAP * sum(part.size for part in (p, q) if part is not None)
        return total

    def _by_name(self, a: Sequence[Part], b: Sequence[Part]) -> list[tuple[Part | None, Part | None]]:
        names_a, names_b = ({p.name: p for p in side} for side in (a, b))
        left, right = [p for p in a if p.name not in names_b], [p for p in b if p.name not in names_a]
        rest = {p: q for p, q in self._by_order(left, right, RENAMED) if p is not None}
        taken = {id(q) for q in rest.values() if q is not None}
        pairs: list[tuple[Part | None, Part | None]] = [(p, names_b.get(p.name) or rest.get(p)) for p in a]
        for i, part in enumerate(b):  # what was added follows what it follows in B
            if part.name in names_a or id(part) in taken:
                continue
            before = {id(p) for p in b[:i]}
            place = max((k + 1 for k, (_, q) in enumerate(pairs) if q is not None and id(q) in before), default=0)
            pairs.insert(place, (None, part))
        return pairs

    def _by_order(self, a: Sequence[Part], b: Sequence[Part], renamed: float) -> list[tuple[Part | None, Part | None]]:
        start = 0
        while start < min(len(a), len(b)) and self._same(a[start], b[start], renamed):
            start += 1
        end = 0
        while end < min(len(a), len(b)) - start and self._same(a[-1 - end], b[-1 - end], renamed):
            end += 1
        middle_a, middle_b = a[start : len(a) - end], b[start : len(b) - end]
        fits = len(middle_a) * len(middle_b) <= LARGEST_TABLE
        middle = self._table(middle_a, middle_b, renamed) if fits else _by_runs(middle_a, middle_b)
        return [
            *zip(a[:start], b[:start], strict=False),
            *middle,
            *zip(a[len(a) - end :], b[len(b) - end :], strict=False),
        ]

    def _same(self, a: Part, b: Part, renamed: float) -> bool:
        return a.identity == b.identity and (renamed == SHIFTED or a.name == b.name)

    def _matched(self, a: Part, b: Part, renamed: float) -> float:
        """What it costs to say that ``a`` is ``b``."""
        if a.name == b.name:
            return self.distance(a, b)
        return math.inf if renamed == RENAMED and are_strangers(a, b) else self.distance(a, b) + renamed

    def _table(self, a: Sequence[Part], b: Sequence[Part], renamed: float) -> list[tuple[Part | None, Part | None]]:
        """The cheapest alignment in order, from the end of the table of all prefixes."""
        if not a or not b:
            return [*((p, None) for p in a), *((None, q) for q in b)]
        gaps = [GAP * q.size for q in b]
        costs = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for j, added in enumerate(gaps):
            costs[0][j + 1] = costs[0][j] + added
        for i, p in enumerate(a):
            row, below = costs[i], costs[i + 1]
            gap = GAP * p.size
            below[0] = row[0] + gap
            for j, q in enumerate(b):
                paired = row[j] + self._matched(p, q, renamed)
                below[j + 1] = min(paired, row[j + 1] + gap, below[j] + gaps[j])
        pairs: list[tuple[Part | None, Part | None]] = []
        i, j = len(a), len(b)
        while i or j:
            if i and j:
                p, q = a[i - 1], b[j - 1]
                paired = costs[i - 1][j - 1] + self._matched(p, q, renamed)
                if costs[i][j] == paired:
                    pairs.append((p, q))
                    i, j = i - 1, j - 1
                    continue
            if j and costs[i][j] == costs[i][j - 1] + gaps[j - 1]:
                pairs.append((None, b[j - 1]))
                j -= 1
            else:
                pairs.append((a[i - 1], None))
                i -= 1
        return pairs[::-1]


def _by_runs(a: Sequence[Part], b: Sequence[Part]) -> list[tuple[Part | None, Part | None]]:
    """Runs of equal parts stay together; what is between them is paired from the front."""
    left, right = [p.signature for p in a], [q.signature for q in b]
    pairs: list[tuple[Part | None, Part | None]] = []
    for _, i, i_end, j, j_end in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        both = min(i_end - i, j_end - j)
        pairs += zip(a[i : i + both], b[j : j + both], strict=True)
        pairs += [(p, None) for p in a[i + both : i_end]]
        pairs += [(None, q) for q in b[j + both : j_end]]
    return pairs


def _around(model: Part, inner: Part) -> list[Part]:
    inside = {id(p) for p in inner.walk()}
    return [p for p in model.walk() if id(p) not in inside]


# ------------------------------------------------------------------ moves


def _moves_found(matches: list[Match]) -> list[Match]:
    """What is left on both sides and is the same in all its settings, with what is inside it, has moved.

    A single part without settings cannot be recognised: one activation is like the next.
    """
    gone = {id(m.a) for m in matches if m.b is None}
    new = {id(m.b): m.b for m in matches if m.a is None and m.b is not None}
    homes: dict[str, list[Part]] = {}
    for part in new.values():
        if all(id(p) in new for p in part.walk()):
            homes.setdefault(part.signature, []).append(part)
    moved: dict[int, Match] = {}
    taken: set[int] = set()
    for match in matches:
        a = match.a
        if a is None or match.b is not None or id(a) in moved or not (a.settings or a.children):
            continue
        if not all(id(p) in gone for p in a.walk()):
            continue
        home = next((p for p in homes.get(a.signature, ()) if not any(id(q) in taken for q in p.walk())), None)
        if home is not None:
            for first, (p, q) in enumerate(zip(a.walk(), home.walk(), strict=True)):
                moved[id(p)] = Match(p, q, renamed=first == 0)
                taken.add(id(q))
    kept = (moved.get(id(m.a), m) if m.a is not None else m for m in matches)
    return [m for m in kept if not (m.a is None and id(m.b) in taken)]
