"""What one model costs."""

from __future__ import annotations

from saconv_surgeon.records import Profile
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, Block, Column, Table
from saconv_surgeon.report.page import Total
from saconv_surgeon.report.sections.cost_words import ROWS, energy_settings, meaning, settings, spread

EXPLAINED = (Column("", whole=True, tone="strong"), Column("", right=True, whole=True), Column("", tone="dim"))
BATCHES = ("batch", "latency", "per sample", "samples/s", "p90", "IQR", "n")


def totals(p: Profile) -> Table:
    """The totals, with what each means."""
    rows = [("input", f"{p.dtype} on {p.device}", ", ".join(map(human.shape, p.input_shapes)))]
    for row in ROWS:
        rows.append((row.label, row.show(getattr(p, row.field)), meaning(row, p)))
        if row.field == "parameters" and p.buffers:
            rows.append(("buffers", human.count(p.buffers), f"elements, {human.memory(p.buffer_bytes)}"))
    if p.latency is not None:
        t = p.latency
        rows.append(("latency", human.seconds(t.median_s), f"{spread(t)}; {settings(t)}"))
        if t.samples_per_s is not None:
            rows.append(("throughput", f"{human.rate(t.samples_per_s)}", f"samples, at batch {t.batch}"))
    if p.energy is not None:
        rows.append(("energy", f"{p.energy.joules_per_sample:.3g} J", energy_settings(p.energy)))
    return Table("", EXPLAINED, tuple(rows), header=False)


def batches(p: Profile) -> list[Block]:
    """The latency at each batch size, if there are several."""
    if len(p.latencies) < 2:
        return []
    rows = []
    for t in p.latencies:
        each = t.median_s / (t.batch or 1)
        times = (t.median_s, each), (t.p90_s, t.iqr_s)
        (whole, one), (p90, iqr) = (map(human.seconds, pair) for pair in times)
        rows.append((str(t.batch), whole, one, human.count(1 / each), p90, iqr, str(t.n)))
    columns = tuple(Column(title, right=True, whole=True) for title in BATCHES)
    return [Table("", columns, tuple(rows)), BLANK]


def training(p: Profile) -> list[Block]:
    """A step of training, if one was timed."""
    if p.training is None:
        return []
    t = p.training
    halves = f"forward {human.seconds(t.forward_s)}, backward {human.seconds(t.backward_s)}"
    rows = (
        ("training step", human.seconds(t.step.median_s), f"{halves}; {spread(t.step)}; {settings(t.step)}"),
        ("saved for backward", human.memory(t.saved_bytes), "what autograd keeps, without weights"),
        ("peak memory", human.memory(t.peak_memory_bytes), "in a step, weights and gradients included"),
    )
    return [Table("", EXPLAINED, rows, header=False), BLANK]


def page_totals(p: Profile) -> tuple[Total, ...]:
    """All of these for a page."""
    shapes = ", ".join(map(human.shape, p.input_shapes))
    found = [Total("input", (shapes,), meaning=f"{p.dtype} on {p.device}")]
    found += [Total(row.label, (row.show(getattr(p, row.field)),), meaning=meaning(row, p)) for row in ROWS]
    for t in p.all_latencies:
        label = "latency" if len(p.all_latencies) < 2 else f"latency, batch {t.batch}"
        found.append(Total(label, (human.seconds(t.median_s),), meaning=f"{spread(t)}; {settings(t)}"))
        if t.samples_per_s is not None:
            label = label.replace("latency", "throughput")
            found.append(Total(label, (human.rate(t.samples_per_s),), meaning=f"samples, at batch {t.batch}"))
    if p.energy is not None:
        found.append(Total("energy", (f"{p.energy.joules_per_sample:.3g} J",), meaning=energy_settings(p.energy)))
    if p.training is not None:
        step = p.training.step
        found += [
            Total("training step", (human.seconds(step.median_s),), meaning=settings(step)),
            Total("saved for backward", (human.memory(p.training.saved_bytes),), meaning="what autograd keeps"),
        ]
    return tuple(found)
