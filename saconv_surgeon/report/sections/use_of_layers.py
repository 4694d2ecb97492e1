"""How much trained layers use what the conversion added."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import Diff, Freedom
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Cell, Column, Table, line, table
from saconv_surgeon.report.sections.targets_in_words import in_words

TITLES = {
    "moved": ("moved", "output moved by"),
    "switch": ("switch", "switch"),
    "weight_diff": ("Δw/w", "|Δw|/|w|"),
    "pre_context": ("pre", "pre-context"),
    "post_context": ("post", "post-context"),
    "offset": ("offsets", "offsets"),
    "parts": ("parts", "parts, of the output"),
}
"""Of each column, on a terminal and on a page. Those that no layer has anything for are left out."""


def use_of_layers(record: Diff) -> list[Block]:
    """A summary of each model that has such layers, then the layers that moved, the most moved first."""
    blocks: list[Block] = []
    for side, found in (("A", record.freedom_a), ("B", record.freedom_b)):
        if not found:
            continue
        blocks += [BLANK, line(f"what surgery has become in {side}: {_summary(found)}")]
        moved = [layer for layer in found if layer.use != "at rest"]
        if not moved:
            continue
        shown = _shown(moved)
        numbers = (Column(TITLES[name][0], right=name != "parts", whole=name != "parts") for name in shown)
        columns = (Column("layer", least=12), Column("use"), *numbers)
        moved.sort(key=lambda layer: layer.moved or 0.0, reverse=True)
        rows: list[tuple[Cell | str, ...]] = [(_named(layer, found), *_cells(layer, shown)) for layer in moved]
        blocks.append(Table("", columns, tuple(rows)))
    return blocks


def use_pages(record: Diff) -> list[Table]:
    """The same for a page, with all layers."""
    return [
        table(
            f"What surgery has become in {side}",
            ("layer", "use", *(TITLES[name][1] for name in _shown(found))),
            [(_named(layer, found), *_cells(layer, _shown(found))) for layer in found],
            _summary(found),
            folded=all(layer.use == "at rest" for layer in found),
        )
        for side, found in (("A", record.freedom_a), ("B", record.freedom_b))
        if found
    ]


def _named(layer: Freedom, among: Sequence[Freedom]) -> Cell:
    """Its path, and what it is if the others are not all the same."""
    kinds = {each.path: in_words(each.target or each.type, each.options) for each in among}
    return Cell(layer.path or ROOT, note=f" ({kinds[layer.path]})" if len(set(kinds.values())) > 1 else "")


def _shown(layers: Sequence[Freedom]) -> list[str]:
    """The columns that some of ``layers`` has something for."""
    cells = [_figures(layer) for layer in layers]
    return [name for name in TITLES if name == "moved" or any(row[name] not in ("", human.UNKNOWN) for row in cells)]


def _cells(layer: Freedom, shown: Sequence[str]) -> tuple[str, ...]:
    """Use, how far the output moved, and the columns that are shown."""
    figures = _figures(layer)
    return layer.use, *(figures[name] for name in shown)


def _figures(layer: Freedom) -> dict[str, str]:
    mean, spread = (human.UNKNOWN if v is None else f"{v:.3f}" for v in (layer.switch_mean, layer.switch_std))
    return {
        "moved": human.share(layer.moved),
        "switch": human.UNKNOWN if layer.switch_mean is None else f"{mean} ± {spread}",
        "weight_diff": human.share(layer.weight_diff),
        "pre_context": human.share(layer.pre_context),
        "post_context": human.share(layer.post_context),
        "offset": "" if not layer.offset else f"{layer.offset:.2g} px",
        "parts": " · ".join(f"{name} {human.share(value)}" for name, value in layer.parts.items()),
    }


def _summary(layers: Sequence[Freedom]) -> str:
    """How many layers use what they were given, and how many could be folded back."""
    n = {use: sum(layer.use == use for layer in layers) for use in ("used", "hardly used", "at rest")}
    text = f"{n['used']} of {human.plural(len(layers), 'layer')} use their freedom"
    foldable = [f"{n['at rest']} still the plain convolution to the bit"] if n["at rest"] else []
    foldable += [f"{n['hardly used']} within 0.1 % of it"] if n["hardly used"] else []
    text += f"; {' and '.join(foldable)} could be folded back" if foldable else ""
    untold = [f"{k} {use}" for use in ("never ran", "not finite") if (k := sum(layer.use == use for layer in layers))]
    return "; ".join([text, *untold])
