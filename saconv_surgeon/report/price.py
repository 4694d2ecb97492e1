"""What a model costs, and what two cost beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from saconv_surgeon.records import Latency, LatencyRatio, Priced, Profile, TrainingCost, UncountedOp
from saconv_surgeon.report import text

WIDE = 110
VERDICT_STYLE = {"faster": "green", "slower": "yellow", "same": "green", "inconclusive": "dim"}
FLAGS = {
    "few-runs": "fewer than ten runs: give it a larger --budget",
    "spread": "the interquartile range exceeds 10 % of the median: the machine is noisy",
    "drift": "the second half of the runs differs from the first by more than 10 %: clocks or load changed",
    "enqueue-bound": "bound by launches, not by the GPU: the host needs more than 80 % of the time to enqueue the work",
}
CONDITIONS = {
    "device_name": "",
    "clock_mhz": "MHz",
    "driver": "driver",
    "torch": "torch",
    "load_1min": "load",
    "float32_matmul_precision": "float32 matmul",
    "tf32_cudnn": "TF32 in cuDNN",
    "cudnn_benchmark": "cuDNN benchmark",
}
"""What of the environment is printed with a latency, and how it is called."""


class Row(NamedTuple):
    """A total: how it is called, where it is in a profile, how it is written, and what it means."""

    label: str
    field: str
    show: Callable[[float | None], str]
    meaning: str


ROWS = (
    Row("parameters", "parameters", text.count, ""),
    Row("MACs", "macs", text.count, "1 multiply–accumulate = 1; convolutions, linear layers, matrix products"),
    Row("FLOPs", "flops", text.count, "2 × MACs + element-wise, pooling and normalisation"),
    Row("fvcore flops", "fvcore_flops", text.count, "what plain fvcore prints: a mixed unit, for published tables"),
    Row("activations", "activations", text.count, "elements produced by convolutions, linear layers, matrix products"),
    Row("ops", "ops", text.count, "kernels launched; views are none"),
    Row("bytes moved", "bytes_moved", text.memory, "read and written by these kernels"),
    Row("peak memory", "peak_memory_bytes", text.memory, "one forward pass in inference, weights included"),
)


TRAINING_ROWS: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("training step", "step", text.seconds),
    ("  forward", "forward_s", text.seconds),
    ("  backward", "backward_s", text.seconds),
    ("saved for backward", "saved_bytes", text.memory),
    ("peak in training", "peak_memory_bytes", text.memory),
)


# ------------------------------------------------------------------ one model


def totals(p: Profile) -> RenderableType:
    """The totals of one profile, with what each means."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    inputs = ", ".join(map(text.shape, p.input_shapes))
    table.add_row("input", f"{p.dtype} on {p.device}", Text(inputs))
    for row in ROWS:
        table.add_row(row.label, row.show(getattr(p, row.field)), Text(meaning(row, p)))
        if row.field == "parameters" and p.buffers:
            table.add_row("buffers", text.count(p.buffers), f"elements, {text.memory(p.buffer_bytes)}")
    if p.latency is not None:
        table.add_row("latency", text.seconds(p.latency.median_s), Text(f"{spread(p.latency)}; {settings(p.latency)}"))
    return table


def batches(p: Profile) -> list[RenderableType]:
    """The sweep over batch sizes, where there was one."""
    if len(p.latencies) < 2:
        return []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("batch", "latency", "per sample", "samples/s", "p90", "IQR", "n"):
        table.add_column(title, justify="right", no_wrap=True)
    for t in p.latencies:
        each = t.median_s / (t.batch or 1)
        cells = [text.seconds(t.median_s), text.seconds(each), text.count(1 / each), text.seconds(t.p90_s)]
        table.add_row(str(t.batch), *cells, text.seconds(t.iqr_s), str(t.n))
    return [table, Text()]


def training(p: Profile) -> list[RenderableType]:
    """A step of training, where one was timed."""
    if p.training is None:
        return []
    t = p.training
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    halves = f"forward {text.seconds(t.forward_s)}, backward {text.seconds(t.backward_s)}"
    table.add_row(
        "training step", text.seconds(t.step.median_s), Text(f"{halves}; {spread(t.step)}; {settings(t.step)}")
    )
    table.add_row("saved for backward", text.memory(t.saved_bytes), "what autograd keeps, without weights")
    table.add_row("peak memory", text.memory(t.peak_memory_bytes), "in a step, weights and gradients included")
    return [table, Text()]


def footnotes(profiles: Iterable[Profile]) -> list[RenderableType]:
    """Whether everything is counted, what is not and where; what is wrong with the timing; where it was timed."""
    profiles = tuple(profiles)
    lines: list[RenderableType] = []
    for p in profiles:
        if p.note:
            lines.append(Text(f"{p.model}: {p.note}", style="yellow"))
    lines.append(_coverage(profiles))
    for p in profiles:
        for flag in dict.fromkeys(flag for t in p.all_latencies for flag in t.flags):
            lines.append(Text(f"{p.model}: {FLAGS.get(flag, flag)}", style="yellow"))
    if any(p.latency is not None for p in profiles):
        lines.append(Text(_circumstances(profiles[0]), style="dim"))
    return lines


# ------------------------------------------------------------------ two models


def of_two(priced: Priced, names: tuple[str, str], width: int) -> list[RenderableType]:
    """Two profiles side by side, with the verdicts and the footnotes."""
    a, b = priced.a, priced.b
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("price", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    for row in ROWS:
        left, right = getattr(a, row.field), getattr(b, row.field)
        if left is not None or right is not None:
            meaning = row.meaning if width >= WIDE else ""
            table.add_row(row.label, row.show(left), row.show(right), text.ratio(left, right), meaning)
    _add_latencies(table, priced)
    if a.training is not None and b.training is not None:
        _add_training(table, a.training, b.training, priced.training_ratio)
    lines: list[RenderableType] = [table]
    for ratio in priced.latency_ratios:
        lines.append(verdict(ratio, place(ratio, priced)))
    if priced.training_ratio is not None:
        lines.append(verdict(priced.training_ratio, " in training"))
    if a.latency is not None:
        lines.append(Text(settings(a.latency), style="dim"))
    return [*lines, *footnotes((a, b))]


def _add_latencies(table: Table, priced: Priced) -> None:
    ratios = {ratio.batch: ratio for ratio in priced.latency_ratios}
    pairs = list(zip(priced.a.all_latencies, priced.b.all_latencies, strict=False))
    several = len(pairs) > 1
    for left, right in pairs:
        ratio = ratios.get(left.batch)
        shown = Text(text.ratio(left.median_s, right.median_s)) if ratio is None else _ratio(ratio)
        label = f"latency, batch {left.batch}" if several else "latency"
        table.add_row(label, text.seconds(left.median_s), text.seconds(right.median_s), shown, "")
        table.add_row("  p90", text.seconds(left.p90_s), text.seconds(right.p90_s), "", "")
        table.add_row("  IQR", text.seconds(left.iqr_s), text.seconds(right.iqr_s), "", "")


def _add_training(table: Table, a: TrainingCost, b: TrainingCost, ratio: LatencyRatio | None) -> None:
    shown = Text(text.ratio(a.step.median_s, b.step.median_s)) if ratio is None else _ratio(ratio)
    table.add_row("training step", text.seconds(a.step.median_s), text.seconds(b.step.median_s), shown, "")
    for label, field, show in TRAINING_ROWS[1:]:
        left, right = getattr(a, field), getattr(b, field)
        table.add_row(label, show(left), show(right), text.ratio(left, right), "")


# ------------------------------------------------------------------ words


def settings(t: Latency) -> str:
    """What a latency was measured with: everything that changes the answer."""
    parts = [t.device]
    if not t.device.startswith("cuda"):
        parts.append(text.plural(t.threads, "thread"))
    parts += [t.clock, f"n = {t.n}"]
    parts += [f"batch {t.batch}"] if t.batch is not None else []
    parts += [t.dtype] if t.dtype else []
    parts += [f"autocast {t.autocast}"] if t.autocast else []
    parts += ["channels_last"] if t.channels_last else []
    parts += [f"torch.compile ({text.seconds(t.compile_s)} for the first call)"] if t.compiled else ["eager"]
    parts += [f"enqueued in {text.seconds(t.enqueue_s)}"] if t.enqueue_s is not None else []
    return ", ".join(parts)


def spread(t: Latency) -> str:
    """How far the runs are apart."""
    tails = ((90, t.p90_s), (95, t.p95_s), (99, t.p99_s))
    known = [f"p{q} {text.seconds(value)}" for q, value in tails if value is not None]
    return ", ".join([*known, f"IQR {text.seconds(t.iqr_s)}"])


def _circumstances(p: Profile) -> str:
    facts = [(name, p.environment.get(key)) for key, name in CONDITIONS.items()]
    return " · ".join(
        f"{value} {name}" if name == "MHz" else f"{name} {value}".strip() for name, value in facts if value is not None
    )


def meaning(row: Row, p: Profile) -> str:
    """What a total of ``p`` means, with what else is known of it."""
    if row.field == "parameters":
        shared = f", {p.shared_parameters:,} shared and counted once" if p.shared_parameters else ""
        exact = f"{p.parameters:,}: {p.trainable_parameters:,} trainable, {p.frozen_parameters:,} frozen{shared}"
        return f"{exact}; {text.memory(p.parameter_bytes)}"
    if row.field == "peak_memory_bytes" and p.peak_memory_source:
        without = ", without autocast" if p.latency is not None and p.latency.autocast else ""
        return f"{row.meaning} ({p.peak_memory_source}{without})"
    return row.meaning


def _coverage(profiles: tuple[Profile, ...]) -> Text:
    uncounted: dict[str, UncountedOp] = {}
    for p in profiles:
        uncounted.update(p.uncounted_ops)
    if uncounted:
        line = Text("Not counted in FLOPs:", style="yellow")
        for op, seen in uncounted.items():
            where = text.names([m or "(the model itself)" for m in seen.modules])
            line.append(f"\n  {op}, {seen.calls} ×, in {where}", style="default")
        return line
    if any(p.macs is None for p in profiles):
        return Text("")
    agreed = all(p.cross_check is not None and p.cross_check.agrees for p in profiles)
    both = "; fvcore and FlopCounterMode agree to the integer" if agreed else ""
    return Text(f"every operation is counted{both}", style="dim")


def place(ratio: LatencyRatio, priced: Priced) -> str:
    """`` at batch 8``, where there are several."""
    return "" if len(priced.latency_ratios) < 2 else f" at batch {ratio.batch}"


def _ratio(record: LatencyRatio) -> Text:
    return Text(f"×{record.median:.3g}", style=VERDICT_STYLE[record.verdict])


def verdict(record: LatencyRatio, where: str) -> Text:
    """``Slower: ×1.31, 95 % interval …``."""
    line = Text(f"{record.verdict.capitalize()}{where}: ", style=VERDICT_STYLE[record.verdict])
    line.append(
        f"×{record.median:.3g}, 95 % interval {record.low:.3g}–{record.high:.3g}, {record.n} alternating pairs, "
        f"noise floor ±{100 * record.noise_floor:.1f} %",
        style="not bold default",
    )
    return line
