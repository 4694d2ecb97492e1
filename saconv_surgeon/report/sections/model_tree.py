"""A model as a tree, each part with all that is in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from saconv_surgeon.records import Profile
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Block, Cell, Column, Table, line
from saconv_surgeon.report.tree import Node, Part, Tree, shares, tree_of


class Summed(NamedTuple):
    """A column: its title, its field in a row, and how it is written."""

    title: str
    figure: str
    show: Callable[[float | None], str]


COLUMNS = (
    Summed("params", "parameters", human.count),
    Summed("MACs", "macs", human.count),
    Summed("time", "latency_s", human.seconds),
    Summed("backward", "backward_s", human.seconds),
    Summed("saved", "saved_bytes", human.memory),
)
SHARED = ("macs", "latency_s")
"""The figures whose share of the whole is shown beside them."""
INDENT = "  "


def model_tree(record: Profile, depth: int | None) -> list[Block]:
    """The parts down to ``depth``, indented; None for all."""
    root = tree_of(record.layers)
    shown = [each for each in COLUMNS if root.total(each.figure) is not None]
    columns = [Column("part", least=16), Column("type", least=6)]
    for title, figure, _ in shown:
        columns.append(Column(title, right=True, whole=True))
        columns += [Column("share", right=True, whole=True, from_width=100)] if figure in SHARED else []
    rows: list[tuple[Cell | str, ...]] = [(ROOT, root.type, *_figures(root, root, shown))]
    deeper = 0
    for level, part in root.walked(depth):
        hidden = sum(1 for _ in part.walked()) if depth is not None and level + 1 == depth else 0
        deeper += hidden
        name = Cell(f"{INDENT * (level + 1)}{part.name}", note=f"  +{hidden}" if hidden else "")
        rows.append((name, part.type, *_figures(part, root, shown)))
    said = f"each with all that is in it; +n: so many parts below, which --depth {depth} leaves out" if deeper else ""
    return [Table("", tuple(columns), tuple(rows)), line(said or "each with all that is in it", "dim")]


def _figures(part: Part, root: Part, shown: list[Summed]) -> list[str]:
    own = shares(part, root)
    cells = []
    for _, figure, show in shown:
        value = part.total(figure)
        cells.append("" if not value else show(value))
        cells += [human.percent(own[figure]) if own[figure] else ""] if figure in SHARED else []
    return cells


def page_tree(record: Profile, depth: int | None) -> Tree:
    """The same for a page, which has all of it and shows it down to ``depth``."""
    root = tree_of(record.layers)
    shown = [each for each in COLUMNS if root.total(each.figure) is not None]
    titles = [title for each in shown for title in ((each.title, "share") if each.figure in SHARED else (each.title,))]

    def node(part: Part, path: str, level: int) -> Node:
        return Node(
            part.name or ROOT,
            path or ROOT,
            part.type,
            tuple(_figures(part, root, shown)),
            tuple(node(each, f"{path}.{each.name}".removeprefix("."), level + 1) for each in part.parts),
            depth is None or level < depth,
        )

    return Tree(tuple(titles), node(root, "", 0))
