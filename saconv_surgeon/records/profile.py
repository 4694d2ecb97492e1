"""What a model costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from saconv_surgeon.errors import UsageError
from saconv_surgeon.records.conversion import Shape
from saconv_surgeon.records.energy import Energy
from saconv_surgeon.records.receptive_field import ReceptiveField
from saconv_surgeon.records.roofline import Roofline

Verdict = Literal["faster", "slower", "less", "more", "same", "inconclusive"]
"""Of times, and of energy."""
PROFILE_SCHEMA = "saconv-surgeon/profile/1"
ENOUGH = 10
"""Pairs for an interval that means something: with five per cent noise, three make one in seven equal models look different."""


@dataclass(frozen=True)
class UncountedOp:
    """An operation of unknown cost: how often it ran and in which modules."""

    calls: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class CountedByFormula:
    """An operation that a formula of the user's or of another package counted: where that is, how often it ran, what it found."""

    source: str
    calls: int
    macs: int
    flops: int


@dataclass(frozen=True)
class LayerCost:
    """What one module does itself, without its children: the rows add up to the totals.

    ``latency_s`` was measured in a separate pass with hooks, which cost time themselves: compare it between rows only.
    So was ``backward_s``, in training steps; ``saved_bytes`` is what autograd keeps for it from forward to backward, each piece
    of memory in the row of the module that keeps it first. ``settings`` is the part of its ``repr`` between the brackets;
    ``converted`` says whether surgery put it there.
    """

    path: str
    type: str
    parameters: int
    macs: int | None
    flops: int | None
    activations: int | None
    ops: int | None = None
    bytes_moved: int | None = None
    calls: int | None = None
    latency_s: float | None = None
    settings: str = ""
    converted: bool = False
    backward_s: float | None = None
    saved_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """How time is measured. ``budget_s`` is for all ``batches`` together; without any, the inputs are taken as they are.

    ``autocast`` is the name of a dtype. ``compiled`` times what ``torch.compile`` makes of the model. ``threads`` is for the CPU;
    None keeps torch's own number. ``training`` adds training steps, ``per_layer`` passes that time every module. ``batch_axis``
    is the axis of the inputs along which the samples lie; None leaves it at 0, or at what the command line was told. ``roofline``
    measures what the machine can do at most and sets the layers against it, for which ``per_layer`` is needed; ``energy``
    measures joules per sample in windows of a second, some twenty of them.
    """

    budget_s: float = 4.0
    batches: tuple[int, ...] = ()
    autocast: str | None = None
    compiled: bool = False
    threads: int | None = None
    training: bool = False
    per_layer: bool = True
    batch_axis: int | None = None
    roofline: bool = False
    energy: bool = False

    def __post_init__(self) -> None:
        if self.roofline and not self.per_layer:
            raise UsageError("a roofline is about the times of the layers; leave the layer times on")
        if not 0 < self.budget_s < math.inf:
            raise UsageError(f"a budget of {self.budget_s} seconds measures nothing; give a number above 0")


@dataclass(frozen=True)
class Latency:
    """Seconds for one forward pass, over ``n`` runs, and the settings that it was measured with.

    ``p90_s``, ``p95_s`` and ``p99_s`` are None if ``n`` is too small for them. ``compile_s`` is the first call after compiling.
    ``enqueue_s`` is how long the host takes to launch the work of a CUDA device. ``flags`` say what is wrong with figures:
    ``"spread"`` (the interquartile range exceeds 10 % of the median), ``"drift"`` (the second half of the runs differs from the
    first by more than 10 %), ``"few-runs"`` (fewer than 10), ``"enqueue-bound"`` (the host is busy for more than 80 % of the
    time).
    """

    IN_JSON: ClassVar = ("samples_per_s",)

    device: str
    median_s: float
    p90_s: float | None
    iqr_s: float
    min_s: float
    n: int
    warmup_n: int
    threads: int
    clock: str
    p95_s: float | None = None
    p99_s: float | None = None
    enqueue_s: float | None = None
    warmup_s: float | None = None
    batch: int | None = None
    dtype: str = ""
    autocast: str | None = None
    channels_last: bool = False
    compiled: bool = False
    compile_s: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def samples_per_s(self) -> float | None:
        """Throughput, by the median; None if the inputs have no batch."""
        return self.batch / self.median_s if self.batch and self.median_s > 0 else None


@dataclass(frozen=True)
class LatencyRatio:
    """Paired ratio after/before (or B/A) with an interval of its median, or the range of the pairs if they are few.

    ``coverage`` is 0.95 for ``low`` to ``high`` from the bootstrap; None for fewer than ``ENOUGH`` pairs, whose smallest and
    largest ratio they are. ``noise_low`` and ``noise_high`` are the same for the baseline against itself, in the same run;
    ``noise_floor`` is how far they reach from 1.
    """

    IN_JSON: ClassVar = ("coverage",)

    median: float
    low: float
    high: float
    verdict: Verdict
    n: int
    noise_floor: float
    noise_low: float | None = None
    noise_high: float | None = None
    batch: int | None = None

    @property
    def coverage(self) -> float | None:
        """How often ``low`` to ``high`` holds the true median; None if that is not known."""
        return 0.95 if self.n >= ENOUGH else None


def interval_name(n: int) -> str:
    """What the interval of ``n`` pairs is called."""
    return "95 % interval" if n >= ENOUGH else f"range of {n} pairs"


@dataclass(frozen=True)
class TrainingCost:
    """One training step in train mode: forward, then backward from the sum of the outputs; no optimiser.

    ``saved_bytes`` is what autograd keeps from forward to backward, without parameters and buffers.
    ``peak_memory_bytes`` is the most that was in memory, with weights and gradients; None if the step could not be followed.
    ``layers_note`` says why the layers have no figures of their own in training, if they have none.
    """

    step: Latency
    forward_s: float
    backward_s: float
    saved_bytes: int
    peak_memory_bytes: int | None
    layers_note: str | None = None


@dataclass(frozen=True)
class CrossCheck:
    """The two counting engines side by side: fvcore on a trace, ``FlopCounterMode`` on the operations that were executed."""

    agrees: bool
    fvcore_macs: int
    flop_counter_macs: int
    differing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """What the counting engines found, for the inputs as given, with their batch.

    ``macs``: multiply-accumulates of convolutions, linear layers and matrix products. ``flops``: 2·macs plus every counted
    element-wise, pooling and normalisation operation. ``fvcore_flops``: what plain fvcore prints, in its mixed unit.
    ``activations``: elements produced by convolutions, linear layers and matrix products. A multiply-accumulate of complex
    numbers is 1 MAC and 8 FLOPs. ``ops``: kernels launched, without views. ``bytes_moved``: what these kernels read and write.
    ``peak_live_bytes``: the most memory that tensors held at any one time, with the weights. A figure that is not known is None;
    ``note`` then says why. ``counted_by_formulas``: operations whose cost did not come from this package's own table;
    ``broken_formulas``: by entry point, why its formulas could not be used.
    """

    macs: int | None
    flops: int | None
    fvcore_flops: int | None
    activations: int | None
    layers: tuple[LayerCost, ...]
    uncounted_ops: Mapping[str, UncountedOp] = field(default_factory=dict)
    engine: str = "fvcore"
    note: str | None = None
    ops: int | None = None
    bytes_moved: int | None = None
    peak_live_bytes: int | None = None
    cross_check: CrossCheck | None = None
    counted_by_formulas: Mapping[str, CountedByFormula] = field(default_factory=dict)
    broken_formulas: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FigureChange:
    """A figure in an earlier report and now, with now/before as ``ratio``; ``path`` is None for a total."""

    figure: str
    before: float | None
    after: float | None
    ratio: float | None
    path: str | None = None


@dataclass(frozen=True)
class ConditionChange:
    """A condition that differs between two reports: a version, a device, a setting."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Comparison:
    """A profile against an earlier one, from the file ``report``: the totals, and every layer with a figure that changed.

    ``same_conditions`` says whether both were timed in the same way on the same kind of machine. Even then they were not timed
    in turn, so the ratio of their latencies has no verdict.
    """

    report: str
    model: str
    totals: tuple[FigureChange, ...]
    layers: tuple[FigureChange, ...]
    conditions: tuple[ConditionChange, ...]
    same_conditions: bool


@dataclass(frozen=True)
class Profile:
    """The price of one model for one set of inputs. Counts as in :class:`Counts`; a shared parameter counts once.

    ``parameters`` and ``buffers`` are numbers of elements; ``shared_parameters`` are those with more than one name.
    ``peak_memory_bytes`` is for one forward pass in inference, with the weights, as ``peak_memory_source`` measured it.
    ``latency`` is the first of ``latencies``, one for each batch size. ``roofline`` and ``energy`` are None if they were not
    asked for; ``receptive_field`` likewise; ``energy_note`` says why energy that was asked for could not be had.
    """

    model: str
    parameters: int
    trainable_parameters: int
    macs: int | None
    flops: int | None
    fvcore_flops: int | None
    activations: int | None
    uncounted_ops: Mapping[str, UncountedOp]
    latency: Latency | None
    peak_memory_bytes: int | None
    layers: tuple[LayerCost, ...]
    input_shapes: tuple[Shape, ...] = ()
    dtype: str = ""
    device: str = ""
    engine: str = "fvcore"
    note: str | None = None
    schema: str = PROFILE_SCHEMA
    frozen_parameters: int = 0
    shared_parameters: int = 0
    parameter_bytes: int | None = None
    buffers: int = 0
    buffer_bytes: int | None = None
    ops: int | None = None
    bytes_moved: int | None = None
    cross_check: CrossCheck | None = None
    peak_memory_source: str | None = None
    latencies: tuple[Latency, ...] = ()
    training: TrainingCost | None = None
    environment: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    comparison: Comparison | None = None
    counted_by_formulas: Mapping[str, CountedByFormula] = field(default_factory=dict)
    broken_formulas: Mapping[str, str] = field(default_factory=dict)
    roofline: Roofline | None = None
    energy: Energy | None = None
    energy_note: str | None = None
    receptive_field: ReceptiveField | None = None

    @property
    def all_latencies(self) -> tuple[Latency, ...]:
        """``latencies``; if an older report has none, its only latency."""
        return self.latencies or ((self.latency,) if self.latency else ())


@dataclass(frozen=True)
class Priced:
    """Two profiles that were made side by side; ratios are b/a, one for each batch size."""

    a: Profile
    b: Profile
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None
    energy_ratio: LatencyRatio | None = None
