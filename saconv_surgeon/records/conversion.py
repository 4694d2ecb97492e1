"""What surgery sees, decides and proves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from saconv_surgeon.records.recorded_inputs import RecordedInputs

Shape = tuple[int, ...]
Decision = Literal["convert", "refuse"]
Mode = Literal["eval", "train"]
Init = Literal["project", "calibrate", "random"]
"""How this package initializes layers that cannot equal their convolutions; targets of other packages may have other ways."""
"""How a layer is initialized that cannot equal its convolution."""
INIT_MEANING: Mapping[str, str] = {
    "project": "the part of each kernel that the new layer can express",
    "calibrate": "a least-squares fit to the original's outputs",
    "random": "random weights",
}

INSPECTION_SCHEMA = "saconv-surgeon/inspection/1"
PLAN_SCHEMA = "saconv-surgeon/plan/1"
MIXED = "mixed"
"""The target of a plan whose convolutions become different things by no rule that has a name: each site has its own."""
CONVERSION_SCHEMA = "saconv-surgeon/conversion/1"


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
    """One convolution of a model: its path, what it did in the census, what follows it.

    ``path`` is the dotted module path; ``aliases`` are the other paths of the same module. A functional call has the path of
    the module that made it, followed by ``::conv2d[i]``. ``norm`` and ``activation`` are what the convolution alone feeds,
    as ``path (Type)``; None if there is none, or if no graph shows it (``found_by`` is then ``"census"``). ``reaches_norm`` says
    whether a norm sees its output, also after activations, sums or pooling, before the next layer that has weights; None if
    no graph shows it.
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
    reaches_norm: bool | None = None

    IN_JSON: ClassVar = ("executed",)

    @property
    def executed(self) -> bool:
        """Whether it ran in the census."""
        return self.calls > 0


@dataclass(frozen=True)
class PlannedSite(ConvSite):
    """A convolution with its decision. ``added_*`` is the cost of converting it, for the example inputs as given.

    ``absorbs`` has the paths of the norm (``bn``) and the activation (``act``) that become parts of the new layer;
    ``not_absorbed`` says why one that was asked for does not. ``target`` and ``options`` are what this convolution becomes;
    None if that is the plan's own target with the plan's own options. ``instead`` says why it is not what a mix has for it first.
    ``note`` is what its target cannot do here, although it converts.
    ``earlier`` says that the model that was converted had this layer already, from a conversion before.
    """

    decision: Decision = "refuse"
    reason: str | None = None
    reason_code: str | None = None
    added_parameters: int | None = None
    added_macs: int | None = None
    absorbs: Mapping[str, str] = field(default_factory=dict)
    not_absorbed: str | None = None
    target: str | None = None
    options: Mapping[str, str] | None = None
    instead: str | None = None
    note: str | None = None
    earlier: bool = False

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
    """The origin of the model of a plan. ``fingerprint`` is the sha256 of its weights.

    ``pretrained`` says that they were those that the model's library publishes, ``weights`` from which file they came otherwise.
    ``inputs`` is what the user gave as ``--input``; empty if the inputs came with the model, or from Python.
    """

    model: str | None = None
    weights: str | None = None
    fingerprint: str | None = None
    inputs: tuple[str, ...] = ()
    pretrained: bool = False


@dataclass(frozen=True)
class Plan:
    """The decision for every convolution, in the order of their first calls.

    ``target`` is what the sites become that have no target of their own: the name of one, that of a mix of targets, which
    decides by rules, or ``"mixed"``, which decides nothing. ``options`` are its options, as the user writes them. ``init`` says
    how layers are initialized that cannot equal their convolutions; None if all preserve the function. ``inputs`` describes
    what the model was run on; None in plans of older versions.
    """

    target: str
    sites: tuple[PlannedSite, ...]
    base: Base = Base()
    tool_version: str = ""
    torch_version: str = ""
    schema: str = PLAN_SCHEMA
    mode: Mode = "eval"
    options: Mapping[str, str] = field(default_factory=dict)
    init: str | None = None
    inputs: RecordedInputs | None = None

    @property
    def converted_paths(self) -> tuple[str, ...]:
        """The paths of the sites that are converted."""
        return tuple(s.path for s in self.sites if s.converts)

    def target_of(self, site: PlannedSite) -> tuple[str, Mapping[str, str]]:
        """What ``site`` becomes if it is converted: the name of its target, and the options as the user writes them.

        A target of its own that is not the plan's has its own options only.
        """
        if site.target is None or site.target == self.target:
            return self.target, self.options if site.options is None else site.options
        return site.target, site.options or {}

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

    ``max_rel`` is max|a-b| / max|a| per tensor, the worst of them. None if that is not finite; ``problems`` then says what was
    seen. ``noise_max_rel`` is how far the original moves from run to run. ``note`` says why the outputs are expected to move.
    ``different_inputs`` is how many of the inputs of the trials differ; None if that is not known. ``redrawn`` says that they
    were made by the user's own ``redraw``.
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
    note: str | None = None
    different_inputs: int | None = None
    redrawn: bool = False


# ------------------------------------------------------------------ explaining


@dataclass(frozen=True)
class LayerFit:
    """How much of a convolution's output its new layer reproduces.

    ``r2`` is 1 - sum|a-b|^2 / sum|a-mean|^2 with each channel's own mean, a being the original. ``r2`` and ``cosine`` are for the
    layer in its place, after the changes of all layers before it; ``r2_alone`` is for the same inputs as the convolution. None
    if a value is not finite.
    """

    path: str
    r2: float | None
    cosine: float | None
    r2_alone: float | None


@dataclass(frozen=True)
class Explained:
    """How much of the original's outputs a converted model reproduces that cannot equal it.

    ``r2`` is the mean over all channels of all floating outputs, each relative to its own spread; the figures of a layer are over
    its channels together. ``top1`` is how often the largest value along the second axis of the first output, (N, C) or
    (N, C, H, W), is at the same index: the class of an image, or of a pixel. ``samples`` from ``source`` were compared;
    ``calibrated_on`` samples had been fitted to. ``not_compared`` are outputs whose size changes, as those of detectors.
    """

    init: str
    r2: float | None
    cosine: float | None
    top1: float | None
    samples: int
    source: str
    layers: tuple[LayerFit, ...]
    calibrated_on: int | None = None
    problems: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
