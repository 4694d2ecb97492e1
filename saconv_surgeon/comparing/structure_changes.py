"""From aligned parts to what a report says: the changes of the structure, and the layers side by side. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from saconv_surgeon.comparing.aligning import Match
from saconv_surgeon.records import LayerPair, StructureChange


def changes_of(matches: Sequence[Match]) -> tuple[StructureChange, ...]:
    """What is not the same, each once: a part that was added or removed stands for everything inside it."""
    found = []
    counted: set[int] = set()
    sides = {"removed": {id(m.a): m.a for m in matches if m.b is None and m.a is not None}}
    sides["added"] = {id(m.b): m.b for m in matches if m.a is None and m.b is not None}
    for match in matches:
        a, b = match.a, match.b
        if a is not None and b is not None:
            if match.renamed:
                found.append(StructureChange(a.path, "renamed", a.own, b.own, b.path, a.size))
            elif match.differs:
                moved = b.path if a.path != b.path else None
                found.append(StructureChange(a.path, "changed", a.own, b.own, moved))
            continue
        part, change = (a, "removed") if a is not None else (b, "added")
        assert part is not None
        if id(part) in counted:
            continue
        together = [p for p in part.walk() if id(p) in sides[change]]
        counted.update(map(id, together))
        own = (part.own or f"({len(together)} parts)",)
        left, right = (own[0], None) if change == "removed" else (None, own[0])
        found.append(StructureChange(part.path, change, left, right, modules=len(together)))  # type: ignore[arg-type]
    return tuple(found)


def layer_pairs(matches: Sequence[Match], a: Collection[str], b: Collection[str]) -> tuple[LayerPair, ...]:
    """The rows of two profiles, which have these paths, side by side."""
    rows_a, rows_b = set(a), set(b)
    pairs = []
    for match in matches:
        left = match.a.path if match.a is not None and match.a.path in rows_a else None
        right = match.b.path if match.b is not None and match.b.path in rows_b else None
        if left is not None and right is not None:
            pairs.append(LayerPair(left, right, "changed" if match.differs else "same"))
        elif left is not None:
            pairs.append(LayerPair(left, None, "removed"))
        elif right is not None:
            pairs.append(LayerPair(None, right, "added"))
    return tuple(pairs)
