"""How two variants differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from saconv_surgeon.records.profile import LatencyRatio, Priced, Profile
from saconv_surgeon.records.receptive_field import ShownImage, SwitchMap

DIFF_SCHEMA = "saconv-surgeon/diff/1"


@dataclass(frozen=True)
class StructureChange:
    """A module that is in one variant only (``"added"``, ``"removed"``), differs (``"changed"``), or has another path
    (``"renamed"``; ``a`` and ``b`` may differ as well).

    ``path`` is its path in A, or in B if it was added; ``new_path`` is its path in B if that is another. ``a`` and ``b`` are its
    class and settings. ``modules`` counts it and its submodules if all of them were added, removed or renamed.
    """

    path: str
    change: Literal["added", "removed", "changed", "renamed"]
    a: str | None
    b: str | None
    new_path: str | None = None
    modules: int = 1


@dataclass(frozen=True)
class LayerPair:
    """The paths of one layer in the two profiles; None for a variant that does not have it."""

    a: str | None
    b: str | None
    change: Literal["same", "added", "removed", "changed"]


@dataclass(frozen=True)
class WeightChange:
    """A tensor of both variants that differs; ``relative`` = |b-a| / |a| in the 2-norm. If that is None, ``why`` says why.

    ``name_b`` is its name in B if that is another. With ``as_kernel``, the kernel that a converted layer convolves with was
    compared with the kernel of the convolution.
    """

    name: str
    relative: float | None
    name_b: str | None = None
    as_kernel: bool = False
    why: str | None = None


@dataclass(frozen=True)
class WeightDiff:
    """The two state dicts compared, names aligned as the modules are.

    ``changed`` has the parameters, largest change first, then the buffers, whose statistics change without learning.

    ``not_finite`` names every tensor that has NaN or infinities, with their number and the variant.
    """

    equal: int
    changed: tuple[WeightChange, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    reshaped: tuple[str, ...]
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True)
class Divergence:
    """How far the outputs of one layer are apart, each on the inputs that it gets in its own model; None if not finite."""

    a: str
    b: str
    max_rel: float | None


@dataclass(frozen=True)
class OutputDiff:
    """The outputs for the same inputs compared, as in :class:`Equivalence`; ``max_*`` and ``cosine`` are None if one has NaN.

    ``top1`` is how often the largest value along the second axis of the first output, (N, C) or (N, C, H, W), is at the same
    index, out of ``top1_of``. ``diverging`` are the layers whose outputs are not equal to the bit, in the order in which they
    run; the difference comes from the first. ``not_finite`` names every output that has NaN or infinities.
    """

    bit_equal: bool
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    tensors: int
    problems: tuple[str, ...] = ()
    top1: float | None = None
    top1_of: int = 0
    diverging: tuple[Divergence, ...] = ()
    layers_compared: int = 0
    not_finite: tuple[str, ...] = ()

    @property
    def first_diverging(self) -> Divergence | None:
        """The first layer whose output differs."""
        return next(iter(self.diverging), None)


Use = Literal["at rest", "hardly used", "used", "never ran", "not finite"]


@dataclass(frozen=True)
class Freedom:
    """How much a trained layer uses what surgery gave it, over some inputs.

    ``switch_*`` are of S over all positions. ``weight_diff`` is |Δw| / |w| in the 2-norm, w being the narrow branch's kernel.
    ``pre_context`` and ``post_context`` are the root mean squares of what the contexts add, relative to what they add it to;
    ``offset`` is the mean distance in pixels by which a deformable layer moves its samples. ``moved`` is |y - y0| / |y| of the
    output y and the plain convolution's output y0 for the same input. None if a value is not finite, or of a part that the layer
    does not have.
    ``use`` is ``"at rest"`` (still the plain convolution, to the bit), ``"hardly used"`` (``moved`` below 0.1 %), or ``"used"``;
    ``"never ran"`` or ``"not finite"`` if that is not known. ``parts`` says of layers with other parts how large each is: the
    root of its share of the output's squares, so that shares need not add up to one. ``target`` and ``options`` say how the layer
    was made; None for one of no target.
    """

    path: str
    type: str
    switch_mean: float | None = None
    switch_std: float | None = None
    switch_min: float | None = None
    switch_max: float | None = None
    weight_diff: float | None = None
    pre_context: float | None = None
    post_context: float | None = None
    moved: float | None = None
    use: Use = "never ran"
    offset: float | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)
    target: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GateResult:
    """A condition under which a command fails: as it was written, what was found, and whether it failed.

    ``value`` is None if the figure is not known; the gate then fails, since nothing shows that it passes.
    """

    gate: str
    value: float | None
    failed: bool
    found: str


@dataclass(frozen=True)
class Diff:
    """Two variants side by side. ``weights``, ``outputs`` and ``latency_ratio`` are None if only reports were compared.

    ``layers`` pairs the rows of both profiles; ``freedom_a`` and ``freedom_b`` are about the switchable layers of each.
    ``switches_a`` and ``switches_b`` are where these look far in the ``image``, if one was given.
    """

    a: Profile
    b: Profile
    structure: tuple[StructureChange, ...]
    weights: WeightDiff | None = None
    outputs: OutputDiff | None = None
    latency_ratio: LatencyRatio | None = None
    schema: str = DIFF_SCHEMA
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None
    layers: tuple[LayerPair, ...] = ()
    freedom_a: tuple[Freedom, ...] = ()
    freedom_b: tuple[Freedom, ...] = ()
    gates: tuple[GateResult, ...] = ()
    energy_ratio: LatencyRatio | None = None
    image: ShownImage | None = None
    switches_a: tuple[SwitchMap, ...] = ()
    switches_b: tuple[SwitchMap, ...] = ()

    @property
    def priced(self) -> Priced:
        """The two profiles and their ratios."""
        ratios = self.latency_ratios or ((self.latency_ratio,) if self.latency_ratio else ())
        return Priced(self.a, self.b, ratios, self.training_ratio, self.energy_ratio)
