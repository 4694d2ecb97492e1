"""How two variants differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saconv_surgeon.records.profile import LatencyRatio, Priced, Profile

DIFF_SCHEMA = "saconv-surgeon/diff/1"


@dataclass(frozen=True)
class StructureChange:
    """A module that is in one variant only (``"added"``, ``"removed"``), differs in both (``"changed"``), or is the same under
    another path (``"renamed"``, where ``a`` and ``b`` may differ as well).

    ``path`` is its place in A, or in B where it was added; ``new_path`` that in B where it is another. ``a`` and ``b`` are its
    class and settings. ``modules`` counts it and what is inside it, where all of that was added, removed or renamed.
    """

    path: str
    change: Literal["added", "removed", "changed", "renamed"]
    a: str | None
    b: str | None
    new_path: str | None = None
    modules: int = 1


@dataclass(frozen=True)
class LayerPair:
    """Rows of the two profiles that stand for the same layer, by their paths; None where a variant has none."""

    a: str | None
    b: str | None
    change: Literal["same", "added", "removed", "changed"]


@dataclass(frozen=True)
class WeightChange:
    """A tensor of both variants that differs; ``relative`` = |b-a| / |a| in the 2-norm, None where that is no number: ``why``.

    ``name_b`` is its name in B where it is another. With ``as_kernel``, the kernel that a converted layer convolves with was
    compared with that of the convolution it stands for.
    """

    name: str
    relative: float | None
    name_b: str | None = None
    as_kernel: bool = False
    why: str | None = None


@dataclass(frozen=True)
class WeightDiff:
    """The two state dicts compared, names aligned as the modules are.

    ``changed`` has the largest change first: of the parameters, then of the buffers, whose statistics move without learning.

    ``not_finite`` names every tensor that has NaN or infinities, with how many in which variant.
    """

    equal: int
    changed: tuple[WeightChange, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    reshaped: tuple[str, ...]
    not_finite: tuple[str, ...] = ()


@dataclass(frozen=True)
class Divergence:
    """How far the outputs of one layer are apart, on whatever each gets in its own model. None where that has no figure."""

    a: str
    b: str
    max_rel: float | None


@dataclass(frozen=True)
class OutputDiff:
    """The outputs for the same inputs compared, as in :class:`Equivalence`; no ``max_*`` and ``cosine`` where only one has NaN.

    ``top1`` is how often the largest value along the second axis of the first output, (N, C) or (N, C, H, W), is in the same
    place, over ``top1_of`` of them. ``diverging`` are the layers whose outputs are not equal to the bit, in the order in which
    they run; the first is where the difference comes from. ``not_finite`` names every output that has NaN or infinities.
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
        """The first layer that differs."""
        return next(iter(self.diverging), None)


Use = Literal["at rest", "hardly used", "used", "never ran", "not finite"]


@dataclass(frozen=True)
class Freedom:
    """What has become of a switchable atrous layer, over the inputs it was looked at with.

    ``switch_*`` are of S over all positions. ``weight_diff`` is |Δw| / |w| in the 2-norm, w being the narrow branch's kernel.
    ``pre_context`` and ``post_context`` are the root mean squares of what the contexts add, relative to what they add it to;
    ``offset`` is the mean distance in pixels by which a deformable layer moves its samples. ``moved`` is |y - y0| / |y| of the
    output y and the plain convolution's output y0 for the same input. None where there is no finite value.
    ``use`` is ``"at rest"`` (still the plain convolution, to the bit), ``"hardly used"`` (``moved`` below 0.1 %), or ``"used"``;
    ``"never ran"`` and ``"not finite"`` where that cannot be told.
    """

    path: str
    type: str
    switch_mean: float | None
    switch_std: float | None
    switch_min: float | None
    switch_max: float | None
    weight_diff: float | None
    pre_context: float | None
    post_context: float | None
    moved: float | None
    use: Use
    offset: float | None = None


@dataclass(frozen=True)
class GateResult:
    """A condition under which a command fails: how it was written, what was found, and whether it holds.

    ``value`` is None where the figure could not be had; the gate then fails, since nothing says that it holds.
    """

    gate: str
    value: float | None
    failed: bool
    found: str


@dataclass(frozen=True)
class Diff:
    """Two variants side by side. ``weights``, ``outputs`` and ``latency_ratio`` are None where only reports were compared.

    ``layers`` pairs the rows of both profiles; ``freedom_a`` and ``freedom_b`` are of the switchable atrous layers of each.
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

    @property
    def priced(self) -> Priced:
        """The two profiles and their ratios."""
        ratios = self.latency_ratios or ((self.latency_ratio,) if self.latency_ratio else ())
        return Priced(self.a, self.b, ratios, self.training_ratio)
