"""How far the outputs of two models are apart, and from which layer on."""

from __future__ import annotations

from saconv_surgeon.records import Diff, OutputDiff
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import ROOT, Line, Table, line, table


def output_changes(record: Diff) -> list[Line]:
    """The distance in words, then what has none."""
    o = record.outputs
    if o is None:
        return []
    lines = [line(outputs_in_words(o), "good" if o.bit_equal else "plain")]
    lines += [line(text, "bad", indent=2) for text in o.not_finite]
    return [*lines, *(line(problem, "warn", indent=2) for problem in o.problems)]


def output_verdicts(record: Diff) -> list[Line]:
    """The same for a page, with what is good news and what is not."""
    o = record.outputs
    if o is None:
        return []
    first = line(outputs_in_words(o), "good" if o.bit_equal else "warn")
    return [first, *(line(text, "bad") for text in (*o.problems, *o.not_finite))]


def divergence_page(record: Diff) -> list[Table]:
    """The layers that give something else, in the order in which they run."""
    o = record.outputs
    if o is None or not o.diverging:
        return []
    rows = [(v.a or ROOT, v.b if v.b != v.a else "", human.error(v.max_rel)) for v in o.diverging]
    layers = human.plural(o.layers_compared, "layer")
    note = f"{len(rows)} of {layers} give something else, in the order in which they run"
    return [table("Outputs: where they diverge", ("layer", "in B", "max rel"), rows, note)]


def outputs_in_words(o: OutputDiff) -> str:
    """How far the outputs are apart, and the first layer that diverges."""
    if o.bit_equal:
        return f"outputs: bit-identical ({human.plural(o.tensors, 'tensor')})"
    cosine = human.UNKNOWN if o.cosine is None else f"{o.cosine:.6f}"
    text = f"outputs: max abs {human.error(o.max_abs)}, max rel {human.error(o.max_rel)}, cosine {cosine}"
    if o.top1 is not None:
        text += f", top-1 the same for {human.percent(o.top1)} of {o.top1_of:,}"
    first = o.first_diverging
    if first is not None:
        text += f"; first to diverge: {first.a or ROOT} (max rel {human.error(first.max_rel)})"
    return text
