"""A model as a tree: every part with what it costs, its own parts included. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from saconv_surgeon.records import LayerCost

SUMMED = ("parameters", "macs", "latency_s", "backward_s", "saved_bytes")
"""What is added up over the parts of a part."""


@dataclass
class Part:
    """A module: its name in the one that holds it, its own row if it has one, and its parts, in order.

    It is complete before it is asked for ``totals``, which are kept.
    """

    name: str
    row: LayerCost | None = None
    parts: list[Part] = field(default_factory=list)
    totals: dict[str, float | None] = field(default_factory=dict, repr=False)

    def total(self, figure: str) -> float | None:
        """The figure of this part and all that is in it, added up once; None if nothing in it has the figure."""
        if figure not in self.totals:
            own = None if self.row is None else getattr(self.row, figure)
            known = [value for value in (own, *(part.total(figure) for part in self.parts)) if value is not None]
            self.totals[figure] = sum(known) if known else None
        return self.totals[figure]

    @property
    def type(self) -> str:
        """Its class; empty if it does nothing itself and has no row."""
        return self.row.type if self.row else ""

    def walked(self, depth: int | None = None, level: int = 0) -> Iterator[tuple[int, Part]]:
        """All parts down to ``depth`` with how deep they lie, in the order of the model."""
        for part in self.parts:
            yield level, part
            if depth is None or level + 1 < depth:
                yield from part.walked(depth, level + 1)


@dataclass(frozen=True)
class Node:
    """A part as a page shows it, its figures as they are written, and the parts in it, which ``is_open`` shows at once."""

    name: str
    path: str
    type: str
    figures: tuple[str, ...]
    nodes: tuple[Node, ...] = ()
    is_open: bool = True

    @property
    def walked(self) -> Iterator[Node]:
        """It and all below it, as far as they are open."""
        yield self
        if self.is_open:
            for node in self.nodes:
                yield from node.walked


@dataclass(frozen=True)
class Tree:
    """The whole model, and the titles of the figures."""

    titles: tuple[str, ...]
    root: Node


def tree_of(rows: Iterable[LayerCost]) -> Part:
    """The model itself, whose own row is that with an empty path."""
    root = Part("")
    parts: dict[str, Part] = {"": root}
    for row in rows:
        _part_at(row.path, parts).row = row
    return root


def _part_at(path: str, parts: dict[str, Part]) -> Part:
    if path not in parts:
        above, _, name = path.rpartition(".")
        parts[path] = Part(name)
        _part_at(above, parts).parts.append(parts[path])
    return parts[path]


def shares(part: Part, of: Part, figures: Sequence[str] = SUMMED) -> dict[str, float | None]:
    """The share that a part has of each figure of the whole."""
    pairs = {figure: (part.total(figure), of.total(figure)) for figure in figures}
    return {name: own / whole if own is not None and whole else None for name, (own, whole) in pairs.items()}
