"""What the maps of a model see of the input."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import Profile, ReceptiveField, StageField
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Block, Column, Table, line
from saconv_surgeon.report.pictures import Gallery, Picture

TITLE = "What each stage sees of the input"


def field_blocks(profiles: Sequence[Profile], sides: Sequence[str] = ("",)) -> list[Block]:
    """A row for each stage, before and after; nothing if it was not asked for."""
    if all(p.receptive_field is None for p in profiles):
        return []
    return [BLANK, field_table(profiles, sides), *(line(text, "dim") for text in _notes(profiles))]


def field_tables(profiles: Sequence[Profile], sides: Sequence[str] = ("",)) -> tuple[Table, ...]:
    """The same for a page."""
    asked = any(p.receptive_field is not None for p in profiles)
    return (field_table(profiles, sides, TITLE, "; ".join(_notes(profiles))),) if asked else ()


def field_table(profiles: Sequence[Profile], sides: Sequence[str], title: str = "", note: str = "") -> Table:
    """Theoretical and effective field of each stage."""
    columns = [Column("receptive field of", least=12, whole=True), Column("stride", right=True, whole=True)]
    columns += [Column(f"theoretical {side}".strip(), right=True, whole=True) for side in sides]
    columns += [Column(f"effective {side}".strip(), right=True, whole=True) for side in sides]
    fields = [p.receptive_field or ReceptiveField((), None) for p in profiles]
    known = [{stage.stride: stage for stage in each.stages} for each in fields]
    rows = []
    for stride in dict.fromkeys(stride for each in known for stride in each):
        stages = [each.get(stride) for each in known]
        names = list(dict.fromkeys(stage.path or ROOT for stage in stages if stage is not None))
        rows.append(
            (" → ".join(names), str(stride), *(_reach(s) for s in stages), *(_effective(s) for s in stages)),
        )
    return Table(title, tuple(columns), tuple(rows), note)


def _reach(stage: StageField | None) -> str:
    if stage is None or stage.theoretical is None:
        return human.UNKNOWN
    height, width = stage.theoretical
    return f"{'≥ ' if stage.is_clipped else ''}{height}×{width}"


def _effective(stage: StageField | None) -> str:
    return human.UNKNOWN if stage is None or stage.effective is None else f"{stage.effective:.0f}²"


def _notes(profiles: Sequence[Profile]) -> list[str]:
    notes = [
        "pixels; theoretical: all that convolutions and pools reach; effective: where the gradient of the centre is ≥ 4.55 %"
    ]
    for p in profiles:
        found = p.receptive_field
        if found is not None and found.global_means:
            means = human.plural(found.global_means, "mean")
            notes.append(f"{p.model}: {means} over whole maps besides, through which everything is seen")
        if found is not None and found.note:
            notes.append(f"{p.model}: {found.note}")
    fields = [p.receptive_field for p in profiles]
    if len(fields) == 2 and all(fields) and _same_effective(*fields):
        notes.append("the effective fields are the same: so far nothing was learnt that looks farther")
    return notes


def _same_effective(a: ReceptiveField | None, b: ReceptiveField | None) -> bool:
    assert a is not None
    assert b is not None
    return bool(a.stages) and [s.effective for s in a.stages] == [s.effective for s in b.stages]


def field_gallery(profiles: Sequence[Profile], sides: Sequence[str]) -> tuple[Gallery, ...]:
    """The effective fields as pictures."""
    pictures = [
        Picture(
            f"{stage.path or ROOT}{f', {side}' if len(profiles) > 1 else ''}",
            f"{_effective(stage)} of {_reach(stage)}",
            stage.picture,
        )
        for p, side in zip(profiles, sides, strict=True)
        if p.receptive_field is not None
        for stage in p.receptive_field.stages
        if stage.picture
    ]
    note = (
        "Where the gradient of the middle of a map comes from, over the whole input: darker is more (its square root)."
    )
    return (Gallery("Effective receptive fields", note, tuple(pictures)),) if pictures else ()
