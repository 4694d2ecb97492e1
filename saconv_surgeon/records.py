"""The plain records that one layer of the package hands to the next: frozen, raw numbers, units in the names.

``to_dict`` and ``from_dict`` turn them into what the JSON contract says and back. Fields may be added; none is renamed.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

Shape = tuple[int, ...]
Decision = Literal["convert", "refuse"]
Mode = Literal["eval", "train"]
Verdict = Literal["faster", "slower", "same", "inconclusive"]

INSPECTION_SCHEMA = "saconv-surgeon/inspection/1"
PLAN_SCHEMA = "saconv-surgeon/plan/1"
CONVERSION_SCHEMA = "saconv-surgeon/conversion/1"
PROFILE_SCHEMA = "saconv-surgeon/profile/1"
DIFF_SCHEMA = "saconv-surgeon/diff/1"


# ------------------------------------------------------------------ seeing


@dataclass(frozen=True)
class CallShape:
    """One pair of map sizes that a convolution was called with, and how often."""

    input: Shape
    output: Shape
    calls: int


@dataclass(frozen=True)
class ConvArguments:
    """The arguments that an ``nn.Conv2d`` was built with."""

    in_channels: int
    out_channels: int
    kernel_size: Shape
    stride: Shape
    padding: Shape | str
    dilation: Shape
    groups: int
    bias: bool
    padding_mode: str
    dtype: str


@dataclass(frozen=True)
class ConvSite:
    """One convolution of a model: where it is, what it did in the census, what follows it.

    ``path`` is the dotted module path; ``aliases`` are the other paths of the same module. A functional call has the path of
    the module that made it, with ``::conv2d[i]`` behind it. ``norm`` and ``activation`` are what the convolution alone feeds,
    as ``path (Type)``; None where there is none or where no graph shows it (``found_by`` is then ``"census"``).
    """

    path: str
    type: str
    calls: int
    shapes: tuple[CallShape, ...]
    aliases: tuple[str, ...] = ()
    arguments: ConvArguments | None = None
    parameters: int = 0
    found_by: str = "census"
    norm: str | None = None
    activation: str | None = None

    IN_JSON: ClassVar = ("executed",)

    @property
    def executed(self) -> bool:
        """Whether it ran in the census."""
        return self.calls > 0


@dataclass(frozen=True)
class PlannedSite(ConvSite):
    """A convolution with its decision. ``added_*`` is what converting it costs, for the example inputs as given."""

    decision: Decision = "refuse"
    reason: str | None = None
    reason_code: str | None = None
    added_parameters: int | None = None
    added_macs: int | None = None

    @classmethod
    def of(cls, site: ConvSite, decision: Decision, **rest: Any) -> PlannedSite:
        """``site`` with a decision."""
        return cls(**{f.name: getattr(site, f.name) for f in dataclasses.fields(ConvSite)}, decision=decision, **rest)

    @property
    def converts(self) -> bool:
        """Whether it is to be converted."""
        return self.decision == "convert"


@dataclass(frozen=True)
class Ledger:
    """Every convolution accounted for: ``executed + never_ran == converted + refused``."""

    executed: int
    never_ran: int
    converted: int
    refused: int

    @property
    def balances(self) -> bool:
        """Whether every convolution is accounted for."""
        return self.executed + self.never_ran == self.converted + self.refused


@dataclass(frozen=True)
class Base:
    """Where the model of a plan came from. ``fingerprint`` is the sha256 over its weights."""

    model: str | None = None
    weights: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Plan:
    """What was decided for every convolution; the sites stand in the order of their first call."""

    target: str
    sites: tuple[PlannedSite, ...]
    base: Base = Base()
    tool_version: str = ""
    torch_version: str = ""
    schema: str = PLAN_SCHEMA
    mode: Mode = "eval"

    @property
    def converted_paths(self) -> tuple[str, ...]:
        """The paths of the sites that are converted."""
        return tuple(s.path for s in self.sites if s.converts)

    @property
    def ledger(self) -> Ledger:
        """The sums over the sites."""
        executed = sum(s.executed for s in self.sites)
        converted = sum(s.converts for s in self.sites)
        return Ledger(executed, len(self.sites) - executed, converted, len(self.sites) - converted)


# ------------------------------------------------------------------ proving


@dataclass(frozen=True)
class Equivalence:
    """How far the outputs moved, over all trials and all tensors of the outputs.

    ``max_rel`` is max|a-b| / max|a| per tensor, the worst of them. None where it has no finite value; ``problems`` then says
    what was seen. ``noise_max_rel`` is how far the original moves from itself.
    """

    passed: bool
    bit_equal: bool
    max_abs: float | None
    max_rel: float | None
    tolerance: float
    trials: int
    tensors: int
    deterministic: bool = True
    noise_max_rel: float | None = None
    first_moved: str | None = None
    problems: tuple[str, ...] = ()
    dtype: str = ""
    device: str = ""
    mode: Mode = "eval"


# ------------------------------------------------------------------ pricing


@dataclass(frozen=True)
class UncountedOp:
    """An operation without a known cost: how often it ran and in which modules."""

    calls: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class LayerCost:
    """What one module does itself, without its children: the rows add up to the totals."""

    path: str
    type: str
    parameters: int
    macs: int | None
    flops: int | None
    activations: int | None


@dataclass(frozen=True)
class Latency:
    """Seconds for one forward pass. ``p90_s`` and ``iqr_s`` are over the same ``n`` runs as ``median_s``."""

    device: str
    median_s: float
    p90_s: float
    iqr_s: float
    min_s: float
    n: int
    warmup_n: int
    threads: int
    clock: str


@dataclass(frozen=True)
class LatencyRatio:
    """Paired ratio after/before (or B/A) with a 95 % bootstrap interval of its median.

    ``noise_floor`` is how far from 1 the same interval of the baseline against itself reaches, in the same run.
    """

    median: float
    low: float
    high: float
    verdict: Verdict
    n: int
    noise_floor: float


@dataclass(frozen=True)
class Counts:
    """What the counting engine found, for the inputs as given (their batch included).

    ``macs``: multiply-accumulates of convolutions, linear layers and matrix products. ``flops``: 2·macs plus every counted
    element-wise, pooling and normalisation operation. ``fvcore_flops``: what plain fvcore prints, in its mixed unit.
    ``activations``: elements produced by convolutions, linear layers and matrix products. All None where the model could not
    be counted; ``note`` then says why.
    """

    macs: int | None
    flops: int | None
    fvcore_flops: int | None
    activations: int | None
    layers: tuple[LayerCost, ...]
    uncounted_ops: Mapping[str, UncountedOp] = field(default_factory=dict)
    engine: str = "fvcore"
    note: str | None = None


@dataclass(frozen=True)
class Profile:
    """The price of one model for one set of inputs. Counts as in :class:`Counts`."""

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


# ------------------------------------------------------------------ comparing


@dataclass(frozen=True)
class StructureChange:
    """A module that is in one variant only (``"added"``, ``"removed"``) or differs in both (``"changed"``)."""

    path: str
    change: Literal["added", "removed", "changed"]
    a: str | None
    b: str | None


@dataclass(frozen=True)
class WeightChange:
    """A tensor of both variants that differs; ``relative`` = |b-a| / |a| in the 2-norm, None where it is not finite."""

    name: str
    relative: float | None


@dataclass(frozen=True)
class WeightDiff:
    """The two state dicts compared. ``changed`` has the largest change first."""

    equal: int
    changed: tuple[WeightChange, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    reshaped: tuple[str, ...]


@dataclass(frozen=True)
class OutputDiff:
    """The outputs for the same inputs compared, as in :class:`Equivalence`."""

    bit_equal: bool
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    tensors: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diff:
    """Two variants side by side. ``weights``, ``outputs`` and ``latency_ratio`` are None where only reports were compared."""

    a: Profile
    b: Profile
    structure: tuple[StructureChange, ...]
    weights: WeightDiff | None = None
    outputs: OutputDiff | None = None
    latency_ratio: LatencyRatio | None = None
    schema: str = DIFF_SCHEMA


# ------------------------------------------------------------------ as JSON

R = TypeVar("R")


def to_dict(record: Any) -> Any:
    """Plain dicts, lists, strings and numbers; figures that are not finite become None."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        items = {f.name: to_dict(getattr(record, f.name)) for f in dataclasses.fields(record)}
        return items | {name: getattr(record, name) for name in getattr(record, "IN_JSON", ())}
    if isinstance(record, Mapping):
        return {str(key): to_dict(value) for key, value in record.items()}
    if isinstance(record, (tuple, list)):
        return [to_dict(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record


def from_dict(cls: type[R], data: Any) -> R:
    """The record of type ``cls`` that ``to_dict`` was given; unknown fields are passed over.

    Raises:
        ValueError: A field is absent or has the wrong type; the message names it.
    """
    return typing.cast(R, _build(cls, data, cls.__name__))


def _build(kind: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_record(kind, data, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments, data, where)
    if origin is Literal:
        return _expect(data in arguments, data, f"one of {', '.join(map(repr, arguments))}", where)
    if origin is tuple:
        _expect(isinstance(data, (list, tuple)), data, "a list", where)
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), data, "an object", where)
        return {key: _build(arguments[1], item, f"{where}[{key!r}]") for key, item in data.items()}
    if kind is Any:
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    wrong_bool = isinstance(data, bool) and kind is not bool
    return _expect(isinstance(data, kind) and not wrong_bool, data, getattr(kind, "__name__", str(kind)), where)


def _build_record(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), data, "an object", where)
    hints = typing.get_type_hints(kind)
    values = {}
    for f in dataclasses.fields(kind):
        if f.name in data:
            values[f.name] = _build(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: no field {f.name!r}")
    return kind(**values)


def _build_union(choices: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in choices:
        return None
    error = None
    for choice in choices:
        if choice is not type(None):
            try:
                return _build(choice, data, where)
            except ValueError as failed:
                error = failed
    raise error or ValueError(f"{where}: no type to build")


def _expect(condition: bool, data: Any, wanted: str, where: str) -> Any:
    if not condition:
        raise ValueError(f"{where}: expected {wanted}, found {str(data)[:60]!r}")
    return data
