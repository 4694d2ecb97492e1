"""What each command's record says, as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.text import Text

from saconv_surgeon.records import (
    Comparison,
    Diff,
    Equivalence,
    Explained,
    FoldedLayer,
    Freedom,
    GateResult,
    LayerCost,
    LayerPair,
    OutputDiff,
    Plan,
    Priced,
    Profile,
)
from saconv_surgeon.report import differences, fits, foldings, price, sites, text
from saconv_surgeon.report.page import FIGURES, ROOT, Layer, Line, Page, Table, Tone, Total
from saconv_surgeon.report.proofs import proof


def of_inspection(plan: Plan, name: str, gates: Sequence[GateResult] = ()) -> Page:
    """What ``inspect`` found."""
    lines = [Line(" ".join(line.split())) for line in sites.ledger(plan).plain.splitlines()]
    verdicts = (*lines, *_gate_lines(gates))
    page = Page("inspect", name, ("value",), (name,), verdicts, (), (), (), _decisions(plan), sites=plan.sites)
    return _page(page, ())


def of_profile(p: Profile, gates: Sequence[GateResult] = ()) -> Page:
    """What ``profile`` found."""
    inputs = ", ".join(map(text.shape, p.input_shapes))
    totals = [Total("input", (inputs,), meaning=f"{p.dtype} on {p.device}")]
    totals += [
        Total(row.label, (row.show(getattr(p, row.field)),), meaning=price.meaning(row, p)) for row in price.ROWS
    ]
    for t in p.all_latencies:
        label = "latency" if len(p.all_latencies) < 2 else f"latency, batch {t.batch}"
        totals.append(Total(label, (text.seconds(t.median_s),), meaning=f"{price.spread(t)}; {price.settings(t)}"))
    if p.training is not None:
        totals += [
            Total("training step", (text.seconds(p.training.step.median_s),), meaning=price.settings(p.training.step)),
            Total("saved for backward", (text.memory(p.training.saved_bytes),), meaning="what autograd keeps"),
        ]
    layers = tuple(Layer(None, row, "same") for row in p.layers)
    tables = _since(p.comparison)
    page = Page("profile", p.model, ("value",), (p.model,), _gate_lines(gates), tuple(totals), layers, (), tables)
    return _page(page, (p,))


def of_diff(d: Diff) -> Page:
    """What ``diff`` found."""
    rows_a, rows_b = ({row.path: row for row in p.layers} for p in (d.a, d.b))
    pairs = d.layers or _pairs_by_path(d.a.layers, d.b.layers)
    layers = tuple(
        Layer(None if p.a is None else rows_a[p.a], None if p.b is None else rows_b[p.b], p.change) for p in pairs
    )
    tables = [_structure(d), *_weights(d), *_outputs(d)]
    tables += _freedom(d.freedom_a, "A") + _freedom(d.freedom_b, "B")
    verdicts = (*_output_lines(d), *_latency_lines(d.priced), *_gate_lines(d.gates))
    subject = f"A = {d.a.model}, B = {d.b.model}"
    page = Page("diff", subject, ("A", "B"), (d.a.model, d.b.model), verdicts, _totals(d.priced), layers, ())
    return _page(replace(page, tables=tuple(tables)), (d.a, d.b))


def of_conversion(
    plan: Plan,
    equivalence: Equivalence,
    explained: Explained | None,
    priced: Priced | None,
    name: str,
    gates: Sequence[GateResult] = (),
) -> Page:
    """What ``convert`` did."""
    ok = equivalence.passed or (explained is not None and not explained.problems)
    done = [proof(equivalence)] if explained is None else fits.summary(explained, equivalence)
    first, *rest = plain(done)
    tone: Tone = "bad" if not ok else "good" if explained is None else "warn"
    verdicts = [Line(first.lstrip("✓✗≠ "), tone), *map(Line, rest)]
    verdicts += [Line(" ".join(sites.ledger(plan).plain.splitlines()[0].split()))]
    tables = (*_explained(explained), *_decisions(plan))
    page = Page("convert", name, ("before", "after"), (name, f"{name}, converted"), (), (), (), (), tables)
    return _with_price(page, verdicts, priced, gates)


def of_folding(
    folded: Sequence[FoldedLayer],
    equivalence: Equivalence | None,
    tolerance: float | None,
    cost: OutputDiff | None,
    priced: Priced | None,
    name: str,
    gates: Sequence[GateResult] = (),
) -> Page:
    """What ``fold`` did."""
    verdicts = [Line(line, "warn") for line in plain(foldings.cost(tolerance, cost, folded))]
    if equivalence is not None:
        first, *rest = plain([proof(equivalence)])
        verdicts += [Line(first.lstrip("✓✗ "), "good" if equivalence.passed else "bad"), *map(Line, rest)]
    verdicts += map(Line, plain([foldings.ledger(folded), *foldings.norms_that_stay(folded)]))
    table = Table("What became of each layer", foldings.COLUMNS, tuple(map(foldings.cells, folded)))
    page = Page("fold", name, ("before", "after"), (name, f"{name}, folded"), (), (), (), (), (table,))
    return _with_price(page, verdicts, priced, gates)


def _with_price(page: Page, verdicts: Sequence[Line], priced: Priced | None, gates: Sequence[GateResult]) -> Page:
    """``page`` with what two models cost, where that is known."""
    if priced is None:
        return _page(replace(page, verdicts=(*verdicts, *_gate_lines(gates))), ())
    rows_a, rows_b = ({row.path: row for row in p.layers} for p in (priced.a, priced.b))
    layers = tuple(
        Layer(None if p.a is None else rows_a[p.a], None if p.b is None else rows_b[p.b], p.change)
        for p in _pairs_by_path(priced.a.layers, priced.b.layers)
    )
    lines = (*verdicts, *_latency_lines(priced), *_gate_lines(gates))
    return _page(replace(page, verdicts=lines, totals=_totals(priced), layers=layers), (priced.a, priced.b))


def plain(parts: Iterable[RenderableType]) -> list[str]:
    """The lines of printed sentences, without colours."""
    lines = [line for part in parts if isinstance(part, Text) for line in part.plain.splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip()]


# ------------------------------------------------------------------ parts


def _page(page: Page, profiles: tuple[Profile, ...]) -> Page:
    """With the columns that have a figure anywhere, and the footnotes."""
    known = tuple(f for f in FIGURES if any(value for layer in page.layers for value in layer.figure(f.field)))
    notes = tuple(plain(price.footnotes(profiles))) if profiles else ()
    tables = tuple(table.without_empty_columns for table in page.tables if table.rows)
    return replace(page, figures=known, notes=notes, tables=tables)


def _pairs_by_path(a: Sequence[LayerCost], b: Sequence[LayerCost]) -> tuple[LayerPair, ...]:
    left, right = ({row.path: row for row in side} for side in (a, b))
    pairs = []
    for path in dict.fromkeys([*left, *right]):
        if path in left and path in right:
            same = left[path].type == right[path].type
            pairs.append(LayerPair(path, path, "same" if same else "changed"))
        elif path in left:
            pairs.append(LayerPair(path, None, "removed"))
        else:
            pairs.append(LayerPair(None, path, "added"))
    return tuple(pairs)


def _totals(priced: Priced) -> tuple[Total, ...]:
    a, b = priced.a, priced.b
    totals = []
    for row in price.ROWS:
        left, right = getattr(a, row.field), getattr(b, row.field)
        if left is not None or right is not None:
            ratio = text.ratio(left, right)
            totals.append(Total(row.label, (row.show(left), row.show(right)), ratio, row.meaning))
    several = len(a.all_latencies) > 1
    ratios = {ratio.batch: ratio for ratio in priced.latency_ratios}
    for x, y in zip(a.all_latencies, b.all_latencies, strict=False):
        paired = ratios.get(x.batch)
        ratio = text.ratio(x.median_s, y.median_s) if paired is None else f"×{paired.median:.3g}"
        label = f"latency, batch {x.batch}" if several else "latency"
        values = (text.seconds(x.median_s), text.seconds(y.median_s))
        totals.append(Total(label, values, ratio, price.settings(x)))
    if a.training is not None and b.training is not None:
        for label, field, show in price.TRAINING_ROWS:
            pair = [
                side.step.median_s if field == "step" else getattr(side, field) for side in (a.training, b.training)
            ]
            totals.append(Total(label.strip(), (show(pair[0]), show(pair[1])), text.ratio(*pair)))
    return tuple(totals)


def _latency_lines(priced: Priced) -> list[Line]:
    tones: dict[str, Tone] = {"faster": "good", "same": "good", "slower": "warn", "inconclusive": "plain"}
    ratios = [(ratio, price.place(ratio, priced)) for ratio in priced.latency_ratios]
    ratios += [(priced.training_ratio, " in training")] if priced.training_ratio is not None else []
    return [Line(price.verdict(ratio, where).plain, tones[ratio.verdict]) for ratio, where in ratios]


def _gate_lines(gates: Sequence[GateResult]) -> tuple[Line, ...]:
    return tuple(Line(text.gate(g), "bad" if g.failed else "good") for g in gates)


def _output_lines(d: Diff) -> list[Line]:
    o = d.outputs
    if o is None:
        return []
    return [
        Line(text.outputs(o), "good" if o.bit_equal else "warn"),
        *(Line(line, "bad") for line in (*o.problems, *o.not_finite)),
    ]


def _structure(d: Diff) -> Table:
    rows = tuple((c.path or ROOT, c.new_path or "", text.change(c), c.a or "—", c.b or "—") for c in d.structure)
    return Table("Structure: what differs", ("module", "in B", "change", "A", "B"), rows)


def _weights(d: Diff) -> list[Table]:
    w = d.weights
    if w is None:
        return []
    changed = tuple(
        (c.name, c.name_b or "", text.weight_change(c), "as kernel" if c.as_kernel else "") for c in w.changed
    )
    one_sided = tuple(
        (name, what)
        for what, names in (("only in A", w.only_in_a), ("only in B", w.only_in_b), ("other shapes", w.reshaped))
        for name in names
    )
    return [
        Table("Weights: NaN and infinities", ("tensor",), tuple((line,) for line in w.not_finite)),
        Table("Weights: changed, largest first", ("tensor", "in B", "change", ""), changed, text.weights(w)),
        Table("Weights: on one side only", ("tensor", "where"), one_sided, "" if changed else text.weights(w)),
    ]


def _outputs(d: Diff) -> list[Table]:
    o = d.outputs
    if o is None or not o.diverging:
        return []
    rows = tuple((v.a or ROOT, v.b if v.b != v.a else "", text.error(v.max_rel)) for v in o.diverging)
    note = (
        f"{len(rows)} of {text.plural(o.layers_compared, 'layer')} give something else, in the order in which they run"
    )
    return [Table("Outputs: where they diverge", ("layer", "in B", "max rel"), rows, note)]


FREEDOM_COLUMNS = ("layer", "use", "output moved by", "switch", "|Δw|/|w|", "pre-context", "post-context", "offsets")


def _freedom(layers: Sequence[Freedom], side: str) -> list[Table]:
    if not layers:
        return []
    return [
        Table(
            f"What surgery has become in {side}",
            FREEDOM_COLUMNS,
            tuple((f.path or ROOT, *text.freedom(f)) for f in layers),
            text.freedom_summary(layers),
        )
    ]


def _explained(explained: Explained | None) -> tuple[Table, ...]:
    if explained is None:
        return ()
    note = "alone: for the very inputs that the convolution gets; in place: with the changes of all layers before"
    columns = ("layer", *fits.COLUMNS[1:])
    return (Table("How much of each layer's output is explained", columns, tuple(fits.rows(explained)), note),)


def _since(record: Comparison | None) -> tuple[Table, ...]:
    """A profile beside an earlier report."""
    if record is None:
        return ()
    changes = tuple(
        ((c.path or ROOT) if c.path is not None else "", *(cell.plain for cell in differences.change_cells(c)))
        for c in (*record.totals, *record.layers)
    )
    conditions = tuple((c.name, c.before or "—", c.after or "—") for c in record.conditions)
    return (
        Table(
            f"Since {record.report}", ("layer", "figure", "before", "now", "ratio"), changes, f"against {record.model}"
        ),
        Table("Circumstances that changed", ("", "before", "now"), conditions),
    )


def _decisions(plan: Plan) -> tuple[Table, ...]:
    rows = tuple(
        (
            s.path or ROOT,
            text.convolution(s.arguments) or s.type,
            text.maps(s.shapes) or "never ran",
            sites.follows(s),
            *(sites.added(value).plain for value in (s.added_parameters, s.added_macs)),
            sites.decision(s, sites.target(plan)).plain,
        )
        for s in plan.sites
    )
    columns = ("convolution", "kind", "map", "feeds", "+params", "+MACs", "decision")
    return (Table("Convolutions and decisions", columns, rows),)
