"""The words and figures of costs that one model and two models share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from saconv_surgeon.records import (
    CountedByFormula,
    Energy,
    Latency,
    LatencyRatio,
    Priced,
    Profile,
    UncountedOp,
    interval_name,
)
from saconv_surgeon.report import human
from saconv_surgeon.report.blocks import BLANK, ROOT, Line, Tone, led, line

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
"""The conditions that are printed with a latency, and their labels."""
TONES: dict[str, Tone] = {
    "faster": "good",
    "less": "good",
    "same": "good",
    "slower": "warn",
    "more": "warn",
    "inconclusive": "dim",
}


class Row(NamedTuple):
    """A total: its label, its field in a profile, how it is written, and what it means."""

    label: str
    field: str
    show: Callable[[float | None], str]
    meaning: str = ""


ROWS = (
    Row("parameters", "parameters", human.count),
    Row("MACs", "macs", human.count, "1 multiply–accumulate = 1; convolutions, linear layers, matrix products"),
    Row("FLOPs", "flops", human.count, "2 × MACs + element-wise, pooling and normalisation"),
    Row("fvcore flops", "fvcore_flops", human.count, "what plain fvcore prints: a mixed unit, for published tables"),
    Row("activations", "activations", human.count, "elements produced by convolutions, linear layers, matrix products"),
    Row("ops", "ops", human.count, "kernels launched; views launch none"),
    Row("bytes moved", "bytes_moved", human.memory, "read and written by these kernels"),
    Row("peak memory", "peak_memory_bytes", human.memory, "one forward pass in inference, weights included"),
)
TRAINING_ROWS = (
    Row("  forward", "forward_s", human.seconds),
    Row("  backward", "backward_s", human.seconds),
    Row("saved for backward", "saved_bytes", human.memory),
    Row("peak in training", "peak_memory_bytes", human.memory),
)
"""Fields of ``TrainingCost``, after the time of the step itself."""


def meaning(row: Row, p: Profile) -> str:
    """What a total of ``p`` means, with what else is known of it."""
    if row.field == "parameters":
        shared = f", {p.shared_parameters:,} shared and counted once" if p.shared_parameters else ""
        exact = f"{p.parameters:,}: {p.trainable_parameters:,} trainable, {p.frozen_parameters:,} frozen{shared}"
        return f"{exact}; {human.memory(p.parameter_bytes)}"
    if row.field == "peak_memory_bytes" and p.peak_memory_source:
        without = ", without autocast" if p.latency is not None and p.latency.autocast else ""
        return f"{row.meaning} ({p.peak_memory_source}{without})"
    return row.meaning


def settings(t: Latency) -> str:
    """What a latency was measured with: everything that changes the answer."""
    parts = [t.device]
    if not t.device.startswith("cuda"):
        parts.append(human.plural(t.threads, "thread"))
    parts += [t.clock, f"n = {t.n}"]
    parts += [f"batch {t.batch}"] if t.batch is not None else []
    parts += [t.dtype] if t.dtype else []
    parts += [f"autocast {t.autocast}"] if t.autocast else []
    parts += ["channels_last"] if t.channels_last else []
    parts += [f"torch.compile ({human.seconds(t.compile_s)} for the first call)"] if t.compiled else ["eager"]
    parts += [f"enqueued in {human.seconds(t.enqueue_s)}"] if t.enqueue_s is not None else []
    return ", ".join(parts)


def energy_settings(e: Energy) -> str:
    """Where a figure of energy comes from."""
    return f"per sample; {e.source}; {e.w:.3g} W at work, {e.idle_w:.3g} W at rest taken off; {e.n} windows of {e.window_s:g} s"


def spread(t: Latency) -> str:
    """How far the runs are apart."""
    tails = ((90, t.p90_s), (95, t.p95_s), (99, t.p99_s))
    known = [f"p{q} {human.seconds(value)}" for q, value in tails if value is not None]
    return ", ".join([*known, f"IQR {human.seconds(t.iqr_s)}"])


def verdict(ratio: LatencyRatio, where: str) -> Line:
    """``Slower: ×1.31, 95 % interval …``."""
    text = (
        f"×{ratio.median:.3g}, {interval_name(ratio.n)} {ratio.low:.3g}–{ratio.high:.3g}, {ratio.n} alternating pairs, "
        f"noise floor ±{100 * ratio.noise_floor:.1f} %"
    )
    return led(f"{ratio.verdict.capitalize()}{where}: ", text, TONES[ratio.verdict])


def verdicts(priced: Priced) -> list[Line]:
    """The verdict of every batch size, then that of training."""
    several = len(priced.latency_ratios) > 1
    lines = [verdict(ratio, f" at batch {ratio.batch}" if several else "") for ratio in priced.latency_ratios]
    lines += [verdict(priced.training_ratio, " in training")] if priced.training_ratio is not None else []
    return lines + ([verdict(priced.energy_ratio, " energy")] if priced.energy_ratio is not None else [])


def footnotes(profiles: Sequence[Profile]) -> list[Line]:
    """What is counted and what is not, by module; what is wrong with the timing; on which machine it was timed."""
    lines = [line(f"{p.model}: {p.note}", "warn") for p in profiles if p.note]
    lines += [
        line(f"{p.model}: {p.training.layers_note}", "warn") for p in profiles if p.training and p.training.layers_note
    ]
    lines += [line(f"energy: n/a; {note}", "warn") for note in dict.fromkeys(p.energy_note for p in profiles) if note]
    lines += _coverage(profiles)
    lines += _formulas(profiles)
    for p in profiles:
        flags = dict.fromkeys(flag for t in p.all_latencies for flag in t.flags)
        lines += [line(f"{p.model}: {FLAGS.get(flag, flag)}", "warn") for flag in flags]
    if any(p.latency is not None for p in profiles):
        lines.append(line(_circumstances(profiles[0]), "dim"))
    return lines


def _coverage(profiles: Iterable[Profile]) -> list[Line]:
    profiles = tuple(profiles)
    uncounted: dict[str, UncountedOp] = {}
    for p in profiles:
        uncounted.update(p.uncounted_ops)
    if uncounted:
        lines = [line("Not counted in FLOPs:", "warn")]
        for op, found in uncounted.items():
            names = human.names([module or ROOT for module in found.modules])
            lines.append(line(f"{op}, {found.calls} ×, in {names}", indent=2))
        return lines
    if any(p.macs is None for p in profiles):
        return [BLANK]
    agreed = all(p.cross_check is not None and p.cross_check.agrees for p in profiles)
    both = "; fvcore and FlopCounterMode agree to the integer" if agreed else ""
    return [line(f"every operation is counted{both}", "dim")]


def _formulas(profiles: Iterable[Profile]) -> list[Line]:
    """Which figures came from formulas of the user's or of other packages, and which of these could not be used."""
    counted: dict[str, CountedByFormula] = {}
    broken: dict[str, str] = {}
    for p in profiles:
        counted.update(p.counted_by_formulas)
        broken.update(p.broken_formulas)
    lines = [
        line(f"{op}, {by.calls} ×, {human.count(by.macs)} MACs: counted by the formula {by.source}", "dim")
        for op, by in counted.items()
    ]
    return lines + [line(f"formulas of {name} are left out: {why}", "warn") for name, why in broken.items()]


def _circumstances(p: Profile) -> str:
    facts = [(name, p.environment.get(key)) for key, name in CONDITIONS.items()]
    return " · ".join(
        f"{value} {name}" if name == "MHz" else f"{name} {value}".strip() for name, value in facts if value is not None
    )
