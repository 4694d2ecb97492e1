"""Which modules of two models differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from saconv_surgeon.records import Diff, StructureChange
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Line, Span, Table, Tone, line, table

ROWS_SHOWN = 20
SIGNS: dict[str, tuple[str, Tone]] = {
    "added": ("+", "good"),
    "removed": ("−", "bad"),
    "changed": ("~", "warn"),
    "renamed": ("→", "strong"),
}
SETTING = re.compile(r"\w+=")


def structure(record: Diff, *, every_row: bool) -> list[Line]:
    """The modules that differ. Convolutions that only became another layer are listed by path alone."""
    if not record.structure:
        return [line("structure: no difference", "good")]
    swaps = _swaps(record.structure)
    lines = [line(f"structure: {_tally(record.structure)}", "strong")]
    for kinds, changes in swaps.items():
        paths = [change.path or ROOT for change in changes]
        names = ", ".join(paths) if every_row else human.names(paths)
        lines.append(line(f"{kinds}, same settings: {names}", indent=2))
    told = {id(change) for changes in swaps.values() for change in changes}
    rest = [change for change in record.structure if id(change) not in told]
    lines += map(_change, rest if every_row else rest[:ROWS_SHOWN])
    if len(rest) > ROWS_SHOWN and not every_row:
        lines.append(line(f"… and {len(rest) - ROWS_SHOWN} more; -v shows all", "dim", indent=2))
    return lines


def structure_page(record: Diff) -> Table:
    """The same for a page."""
    rows = [(c.path or ROOT, c.new_path or "", _in_words(c), c.a or "—", c.b or "—") for c in record.structure]
    return table("Structure: what differs", ("module", "in B", "change", "A", "B"), rows)


def _swaps(changes: Sequence[StructureChange]) -> dict[str, list[StructureChange]]:
    """Layers of which only the class changed, grouped by the two classes; groups of one are left out."""
    groups: dict[str, list[StructureChange]] = {}
    for change in changes:
        if change.change == "changed" and change.a and change.b and change.new_path is None:
            (kind_a, _, settings_a), (kind_b, _, settings_b) = (side.partition("(") for side in (change.a, change.b))
            if settings_a == settings_b:
                groups.setdefault(f"{kind_a} → {kind_b}", []).append(change)
    return {kinds: group for kinds, group in groups.items() if len(group) > 1}


def _tally(changes: Sequence[StructureChange]) -> str:
    counts: Counter[str] = Counter(change.change for change in changes)
    return ", ".join(f"{counts[kind]} {kind}" for kind in SIGNS if counts[kind])


def _change(change: StructureChange) -> Line:
    """``+ body.60  Dropout(p=0.1)``."""
    sign, tone = SIGNS[change.change]
    path = change.path or ROOT
    path += f" → {change.new_path or ROOT}" if change.new_path is not None else ""
    sides = list(dict.fromkeys(side for side in (change.a, change.b) if side is not None))
    what = became(sides[0], sides[1]) if len(sides) == 2 else "".join(sides)
    modules = f"  ({human.plural(change.modules, 'module')})" if change.modules > 1 else ""
    spans = (Span(f"{sign} ", tone), Span(path, "strong"), Span(f"  {what}"), Span(modules, "dim"))
    return Line(spans, indent=2)


def _in_words(c: StructureChange) -> str:
    """``added``, ``renamed, 16 modules``, ``renamed and changed``."""
    word = "renamed and changed" if c.change == "renamed" and c.a != c.b else c.change
    return word if c.modules < 2 else f"{word}, {human.plural(c.modules, 'module')}"


def became(a: str, b: str) -> str:
    """If both have the same class, only the settings that differ, ``Conv2d: 64 → 128, +groups=32``; otherwise ``a → b``."""
    (kind, _, inside_a), (other, _, inside_b) = a.partition("("), b.partition("(")
    if kind != other:
        return f"{a} → {b}"
    left, right = (_named(inside[:-1]) for inside in (inside_a, inside_b))
    told = []
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            label = f"{name}=" if isinstance(name, str) else ""
            if name not in left or name not in right:
                told.append(f"{'+' if name in right else '−'}{label}{right.get(name, left.get(name))}")
            else:
                told.append(f"{label}{left[name]} → {right[name]}")
    return f"{kind}: {', '.join(told)}"


def _named(settings: str) -> dict[str | int, str]:
    """The settings in ``3, 64, kernel_size=(7, 7)`` by name, or by position if they have none."""
    items, depth, start = [], 0, 0
    for i, c in enumerate(settings):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            items.append(settings[start:i].strip())
            start = i + 1
    items += [settings[start:].strip()] if settings.strip() else []
    pairs = [(item.partition("=") if SETTING.match(item) else ("", "", item)) for item in items]
    return {name or i: value for i, (name, _, value) in enumerate(pairs)}
