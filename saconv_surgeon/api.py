"""The library: each public verb as its signature, what it promises, and one call.

``example_inputs`` is everywhere a tensor, a tuple (positional arguments) or a dict (keyword arguments). No function modifies the
model that it is given. A model is any module, wrapped or not, or an ``ExportedProgram``; a TorchScript module becomes a program.

Calls from several threads wait for each other, since what they switch holds for the whole process; a callback may make calls of
its own, in the same thread. Other threads that run models of torch meanwhile see those switches. In ``torch.inference_mode()``
calls work outside of it: what they give can be trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from saconv_surgeon.comparing.diff import diff_models
from saconv_surgeon.folding.fold import fold_model
from saconv_surgeon.folding.folded_model import Folding
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.running.trial_inputs import Redraw
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.planning.asked import Asked
from saconv_surgeon.planning.plan import Material, plan_model
from saconv_surgeon.profiling.price import price_made
from saconv_surgeon.profiling.profile import profile_model
from saconv_surgeon.profiling.receptive_field.measure_fields import receptive_field_of
from saconv_surgeon.records import (
    Base,
    BudgetedPlan,
    Diff,
    Init,
    Mode,
    Plan,
    PlannedSite,
    Profile,
    ReceptiveField,
    ScoreName,
    Timing,
)
from saconv_surgeon.records.progress import OnStep, silent
from saconv_surgeon.surgery.convert import convert_model
from saconv_surgeon.surgery.converted_model import Conversion
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.equivalence import TOLERANCE, TRIALS
from saconv_surgeon.surgery.inspect import make_plan


@one_at_a_time
@with_room
def inspect(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: str = "saconv",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    min_stride: int | None = None,
    allow_depthwise: bool = False,
    absorb: bool = False,
    options: Mapping[str, str] | None = None,
    mode: Mode = "eval",
) -> tuple[PlannedSite, ...]:
    """Every convolution of ``model``, with a decision and, where it is refused, the reason. Nothing is changed.

    Args:
        model: Any module; it is run once.
        example_inputs: What it is run on.
        target: What to convert to.
        include: Only convolutions whose path matches one of these patterns (``fnmatchcase``; ``*`` crosses dots).
        exclude: None whose path matches one of these.
        min_stride: Only those whose output map is at least so many times smaller than the input.
        allow_depthwise: Depthwise ones as well.
        absorb: Say which norm and activation each layer would take in, or why not.
        options: Those of the target, as ``{"ratio": "1/4"}``.
        mode: ``"train"`` looks at the model as it runs in training, with its auxiliary heads.

    Raises:
        UsageError: A pattern matches nothing, there is no such target, or it does not have an option.
    """
    selection = Selection(tuple(include), tuple(exclude), min_stride, allow_depthwise, absorb, dict(options or {}))
    return make_plan(model, example_inputs, target=target, selection=selection, mode=mode).sites


@one_at_a_time
@with_room
def plan(
    model: nn.Module,
    example_inputs: Any | None = None,
    *,
    budgets: str | Sequence[str],
    data: Iterable[Any] | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    step: Callable[[nn.Module, Any], Tensor] | None = None,
    targets: Sequence[str] = ("saconv",),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    min_stride: int | None = None,
    allow_depthwise: bool = False,
    absorb: bool = False,
    options: Mapping[str, str] | None = None,
    score: ScoreName | None = None,
    scores: str | Path | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    seed: int = 0,
    mode: Mode = "eval",
    base: Base | None = None,
    on_step: OnStep = silent,
) -> BudgetedPlan:
    """Chooses which layers to convert, and to what, so that they gain most within ``budgets``; nothing is converted.

    Every candidate of every layer is priced by timing its folded form in turn with its convolution. What was chosen is then
    timed as a whole, and chosen again until the promise holds: the upper end of the interval within the budget, or at most 3 %
    above. ``model`` is not modified. Give the result's ``plan`` to :func:`convert`.

    Args:
        model: Any module.
        example_inputs: What latency and MACs are for; the first batch of ``data`` if it is None.
        budgets: One or more, all of which have to hold: ``"latency<1.3x"`` (of the folded model), ``"trained_latency<1.5x"``,
            ``"training<2x"`` (one step), ``"macs<1.25x"``, ``"parameters<+2M"``, ``"latency<20ms"``.
        data: Batches, as a ``DataLoader`` gives them; the first sixteen are looked at.
        loss: ``loss(output, batch)``, a scalar; ``batch`` is what ``data`` gave, its tensors on the device of the model.
        step: ``step(model, batch)``, which returns the loss as in training; for the score ``"probe"``, instead of ``loss``.
        targets: What a layer may become. ``"saconv"`` stands for its parts, contexts and branches, and for the whole layer.
        include: See :func:`inspect`.
        exclude: See :func:`inspect`.
        min_stride: See :func:`inspect`.
        allow_depthwise: See :func:`inspect`.
        absorb: See :func:`convert`.
        options: Of the targets; ``{"parts": "contexts"}`` leaves these parts only.
        score: How gains are estimated: ``"promise"`` (a score test of the gradients at the start), ``"probe"`` (a short
            training), or a baseline: ``"depth"``, ``"random"``, ``"stages"``. None for the default, ``"promise"``.
        scores: A file that keeps scores and prices, so that another budget does not need them again.
        timing: How time is measured; None measures none, and needs ``scores`` with prices if a budget is about time.
        seed: Of everything that is drawn.
        mode: See :func:`convert`.
        base: See :func:`convert`.
        on_step: See :func:`convert`.

    Raises:
        UsageError: A budget that cannot be read, or that nothing fits (says what would); data with one batch; a loss that is no
            scalar, is not finite, or depends on no layer; scores of another model.
        ModelError: The model cannot be copied, or run on the data.
    """
    asked = Asked.of(
        budgets,
        score,
        targets=tuple(targets),
        selection=Selection(tuple(include), tuple(exclude), min_stride, allow_depthwise, absorb, dict(options or {})),
        scores_file=None if scores is None else Path(scores),
        timing=timing,
        seed=seed,
        mode=mode,
        base=base or Base(),
    )
    return plan_model(model, example_inputs, asked, Material(data, loss, step), on_step)


@one_at_a_time
@with_room
def convert(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: str = "saconv",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    min_stride: int | None = None,
    allow_depthwise: bool = False,
    absorb: bool = False,
    options: Mapping[str, str] | None = None,
    init: Init | None = None,
    data: Iterable[Any] | None = None,
    plan: Plan | str | Path | None = None,
    earlier: Plan | str | Path | None = None,
    trials: int = TRIALS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    mode: Mode = "eval",
    base: Base | None = None,
    redraw: Redraw | None = None,
    on_step: OnStep = silent,
) -> Conversion:
    """Replaces the eligible convolutions in a copy of ``model`` and proves that its outputs did not move, or says how far.

    ``model`` is not modified. A wrapper around it (``DataParallel``, ``torch.compile`` …) is taken off: the converted model is
    what was inside. If there is nothing to convert, it gives a ``NoEffectWarning`` and an unchanged copy.

    Args:
        model: Any module.
        example_inputs: What it is run on.
        target: What to convert to.
        include: See :func:`inspect`.
        exclude: See :func:`inspect`.
        min_stride: See :func:`inspect`.
        allow_depthwise: See :func:`inspect`.
        absorb: The norm and the activation after a convolution become parts of the new layer, if only it feeds them.
        options: See :func:`inspect`.
        init: How layers that cannot equal their convolutions (``spconv``) are initialized: ``"project"``, ``"calibrate"`` (the
            default with ``data``) or ``"random"``.
        data: Batches, each what ``example_inputs`` may be, or as a ``DataLoader`` of images and labels gives them. A few are
            looked at: most of them to calibrate, the rest to say how much of the outputs is explained.
        plan: Decisions to follow instead of selecting: a plan, or a JSON file with one.
        earlier: If ``model`` was converted before: the plan of that, or the folder. Layers that ``model`` has already stay, and
            the new plan makes them too, with or without it; from it are known the original and its fingerprint.
        trials: On how many inputs the proof compares; the first is ``example_inputs``.
        tolerance: What passes as equal, relative to the largest output, if the outputs are not equal to the bit.
        seed: Of the random inputs.
        mode: ``"train"`` converts and proves the model as it runs in training, with its auxiliary heads; the proof then also
            runs it in eval mode.
        base: Where the model came from, for the record; its fingerprint is added.
        redraw: ``make(inputs, trial)``, which returns the inputs of each trial after the first (``trial`` 1, 2 …). It gets a copy
            of ``example_inputs`` and returns the same structure, kinds and sizes. By default floating values are drawn at random
            and integers are shuffled; ``equivalence.different_inputs`` says how many inputs really differed.
        on_step: Called with what is being done and the share that is done, from 0 to 1.

    Returns:
        The conversion. Look at ``equivalence.passed`` before you use the model; with a target that does not preserve the
        function, at ``explained``, and fine-tune.

    Raises:
        UsageError: A pattern, an option or a plan that does not fit the model or the target, or an ``init`` it does not have.
        ModelError: The model cannot be copied.
    """
    return convert_model(
        model,
        example_inputs,
        target=target,
        selection=Selection(tuple(include), tuple(exclude), min_stride, allow_depthwise, absorb, dict(options or {})),
        init=init,
        data=data,
        plan=plan,
        earlier=earlier,
        trials=trials,
        tolerance=tolerance,
        seed=seed,
        mode=mode,
        base=base,
        redraw=redraw,
        on_step=on_step,
    )


@one_at_a_time
@with_room
def fold(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    fold_norms: bool = False,
    tolerance: float | None = None,
    trials: int = TRIALS,
    allowed: float | None = None,
    seed: int = 0,
    base: Base | None = None,
    redraw: Redraw | None = None,
    on_step: OnStep = silent,
) -> Folding:
    """The fastest model for inference that computes what a trained converted model computes. ``model`` is not modified.

    Standardised kernels become constants; a batch norm that follows a layer alone goes into it; what is zero, and switches that
    do not depend on the input, are left out. A layer that never moved becomes the convolution that it was made from, to the bit,
    and keeps its norm. The folded model is in eval mode and cannot be trained.

    Args:
        model: Any module that has converted layers, of any target.
        example_inputs: What to look at the model with and to prove on. Without them nothing is proved, and norms are folded only
            if a torch.fx trace of the whole model shows them; a model that takes optional arguments is not traced.
        fold_norms: Also fold the norms after layers that never moved, and after plain convolutions.
        tolerance: Also take out parts of switchable layers, as long as the output of each layer moves by no more than this,
            relative, in the 2-norm, on ``example_inputs``; give real images. ``cost`` says what it did to the model's outputs.
        trials: On how many inputs the proof compares; the first is ``example_inputs``.
        allowed: What passes as equal in the proof, relative to the largest output. Default: 1e-5, more in half precision, and
            what float32 rounds, if the same folding in float64 moves nothing.
        seed: Of the random inputs.
        base: Where the model came from, for the record.
        redraw: See :func:`convert`.
        on_step: Called with what is being done and the share that is done, from 0 to 1.

    Raises:
        UsageError: A tolerance without inputs, or one that is not a share.
        ModelError: The model cannot be copied, or the folded one cannot be run.
    """
    return fold_model(
        model,
        example_inputs,
        fold_norms=fold_norms,
        tolerance=tolerance,
        trials=trials,
        allowed=allowed,
        seed=seed,
        base=base,
        redraw=redraw,
        on_step=on_step,
    )


C = TypeVar("C", Conversion, Folding)


@one_at_a_time
@with_room
def price(
    conversion: C,
    original: nn.Module,
    example_inputs: Any,
    *,
    name: str | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    on_step: OnStep = silent,
) -> C:
    """``conversion``, or a folding, with the profiles of ``original`` and of the new model, timed alternately in one run.

    ``timing`` says how; None leaves time out.
    """
    return price_made(conversion, original, example_inputs, name=name, timing=timing, on_step=on_step)


@one_at_a_time
@with_room
def profile(
    model: nn.Module,
    example_inputs: Any,
    *,
    name: str | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    on_step: OnStep = silent,
) -> Profile:
    """Parameters, MACs, FLOPs, activations, memory and latency of ``model``, which is left as it was.

    A model on the meta device, which has no weights, is counted without running it.

    Args:
        model: Any module.
        example_inputs: What it is run on.
        name: What to call it.
        timing: How time is measured: budget, batch sizes, autocast, ``torch.compile``, threads, training steps; None leaves time
            out.
        on_step: Called with what is being done and the share that is done, from 0 to 1.

    Raises:
        ModelError: The model cannot be compiled, trained, or run at a batch size that was asked for.
    """
    return profile_model(model, example_inputs, name=name, timing=timing, on_step=on_step)


@one_at_a_time
@with_room
def receptive_field(model: nn.Module, example_inputs: Any, *, seed: int = 0) -> ReceptiveField:
    """What the middle of each map of ``model`` sees of an input of (N, C, H, W), in eval mode. The model is left as it was.

    The theoretical field is what convolutions and pools reach, by structure alone; the effective one is where the gradient of the
    centre is at least 4.55 % of its largest value (Luo et al., NeurIPS 2016), over eight random inputs.

    Args:
        model: Any module.
        example_inputs: What it is run on.
        seed: Of the random inputs.
    """
    model, inputs = opened(model, example_inputs)
    return receptive_field_of(model, inputs, seed)


@one_at_a_time
@with_room
def diff(
    a: nn.Module,
    b: nn.Module,
    example_inputs: Any,
    *,
    names: tuple[str, str] | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    image: str | Path | None = None,
    on_step: OnStep = silent,
) -> Diff:
    """Structure, price, weights and outputs of two variants; ratios are b/a.

    Parts are aligned by path, those that were renamed by what they are, those of a ``Sequential`` by order.

    Args:
        a: Any module.
        b: Any module that runs on the same inputs.
        example_inputs: What both are run on.
        names: What to call them.
        timing: How time is measured; None leaves time out.
        image: A picture over which it is shown where switchable layers look far.
        on_step: Called with what is being done and the share that is done, from 0 to 1.

    Raises:
        UsageError: The image cannot be read, or the models take none.
    """
    return diff_models(a, b, example_inputs, names=names, timing=timing, image=image, on_step=on_step)
