"""The library: what the command line calls, and what a training script does.

``example_inputs`` is everywhere a tensor, a tuple (positional arguments) or a dict (keyword arguments). No function modifies the
model that it is given. A model is any module, wrapped or not, or an ``ExportedProgram``; a TorchScript module becomes a program.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.export import ExportedProgram

from saconv_surgeon.comparing.aligning import align, changes_of, layer_pairs
from saconv_surgeon.comparing.freedom import freedom
from saconv_surgeon.comparing.outputs import compare_outputs
from saconv_surgeon.comparing.structure import tree
from saconv_surgeon.comparing.weights import compare_weights
from saconv_surgeon.convs.target import Init
from saconv_surgeon.convs.targets import find_target
from saconv_surgeon.errors import ModelError, NoEffectWarning, UsageError, first_line
from saconv_surgeon.folding.folding import allowed_for, fold_proved, folded_twin
from saconv_surgeon.folding.operating import Operated, fold_layers
from saconv_surgeon.folding.result import Folding
from saconv_surgeon.folding.simplifying import Removed, simplify
from saconv_surgeon.models.abstract import is_abstract
from saconv_surgeon.models.census import Census, take_census
from saconv_surgeon.models.exported import program_of, program_of_script
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.state import exact_convolutions, preserved_randomness, seed_all
from saconv_surgeon.models.tracing import add_context
from saconv_surgeon.models.weights import fingerprint
from saconv_surgeon.models.wrappers import unwrapped
from saconv_surgeon.profiling.together import OnStep, profile_together
from saconv_surgeon.records import (
    Base,
    ConvSite,
    Diff,
    Equivalence,
    Mode,
    Plan,
    PlannedSite,
    Profile,
    Timing,
)
from saconv_surgeon.surgery import planning
from saconv_surgeon.surgery.conversion import Conversion
from saconv_surgeon.surgery.eligibility import HELD_OUTSIDE, Eligibility
from saconv_surgeon.surgery.equivalence import TOLERANCE, TRIALS, prove, unreached, worse_of
from saconv_surgeon.surgery.planning import Selection
from saconv_surgeon.surgery.restoring import plan_of, read_plan_file
from saconv_surgeon.surgery.rewriting import apply
from saconv_surgeon.surgery.starting import begin, chosen_init


def _silent(step: str, done: float) -> None:
    """Reports progress to nobody."""


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


def make_plan(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: str = "saconv",
    selection: Selection = Selection(),  # noqa: B008 - frozen
    recorded: Plan | None = None,
    mode: Mode = "eval",
    base: Base = Base(),  # noqa: B008 - frozen
    on_step: OnStep = _silent,
) -> Plan:
    """What would become of each convolution of ``model``: as ``recorded`` says where it is given, else by ``selection``."""
    model, inputs = _opened(model, example_inputs)
    census, sites = _see(model, inputs, mode, on_step)
    size = inputs.image_size
    absorbs = selection.absorb if recorded is None else any(site.absorbs for site in recorded.sites)
    in_training = _in_training(model, inputs) if absorbs and mode == "eval" else ()
    if recorded is None:
        made = planning.make_plan(
            model,
            sites,
            census,
            target=target,
            selection=selection,
            image_size=size,
            base=base,
            in_training=in_training,
        )
        return replace(made, mode=mode)
    goal = find_target(recorded.target)
    everything = Selection(absorb=goal.absorbs, options=recorded.options)
    eligibility = Eligibility(model, census, goal, goal.parse(recorded.options))
    fresh = planning.make_plan(
        model,
        sites,
        census,
        target=recorded.target,
        selection=everything,
        image_size=size,
        base=base,
        in_training=in_training,
    )
    fresh = replace(fresh, mode=mode)
    return planning.replay(recorded, fresh, lambda site: eligibility.why_not(site, allow_depthwise=True))


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
    trials: int = TRIALS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    mode: Mode = "eval",
    base: Base | None = None,
    on_step: OnStep = _silent,
) -> Conversion:
    """Replaces the eligible convolutions in a copy of ``model`` and proves that its outputs did not move, or says how far.

    ``model`` is not modified. A wrapper around it (``DataParallel``, ``torch.compile`` …) is taken off: the converted model is
    what was inside. Where there is nothing to convert, a ``NoEffectWarning`` is given and the copy is an unchanged one.

    Args:
        model: Any module.
        example_inputs: What it is run on.
        target: What to convert to.
        include: See :func:`inspect`.
        exclude: See :func:`inspect`.
        min_stride: See :func:`inspect`.
        allow_depthwise: See :func:`inspect`.
        absorb: Norm and activation behind a convolution become parts of the new layer, where it alone feeds them.
        options: See :func:`inspect`.
        init: Where layers begin that cannot equal their convolutions (``spconv``): ``"project"``, ``"calibrate"`` (the default
            with ``data``) or ``"random"``.
        data: Batches, each what ``example_inputs`` may be, or as a ``DataLoader`` of images and labels gives them. A few are
            looked at: most of them to calibrate, the rest to say how much of the outputs is explained.
        plan: Decisions to follow instead of selecting: a plan, or a JSON file with one.
        trials: On how many inputs the proof compares; the first is ``example_inputs``.
        tolerance: What still passes as equal, relative to the largest output, where the outputs are not equal to the bit.
        seed: Of the random inputs.
        mode: ``"train"`` converts and proves the model as it runs in training, with its auxiliary heads; the proof then also
            runs it in eval mode.
        base: Where the model came from, for the record; its fingerprint is added.
        on_step: Told about progress.

    Returns:
        The conversion. Look at ``equivalence.passed`` before you use the model; with a target that does not preserve the
        function, at ``explained``, and fine-tune.

    Raises:
        UsageError: A pattern, an option or a plan that does not fit the model or the target, or an ``init`` it does not have.
        ModelError: The model cannot be copied.
    """
    model, inputs = _opened(model, example_inputs)
    recorded = plan_of(read_plan_file(Path(plan)), Path(plan)) if isinstance(plan, (str, Path)) else plan
    made = make_plan(
        model,
        inputs,
        target=target,
        selection=Selection(tuple(include), tuple(exclude), min_stride, allow_depthwise, absorb, dict(options or {})),
        recorded=recorded,
        mode=mode,
        base=base or Base(),
        on_step=on_step,
    )
    goal = find_target(made.target)
    if init is None and recorded is not None and not goal.preserves:
        init = recorded.init  # type: ignore[assignment]
    init = chosen_init(goal, init, data is not None)
    made = replace(made, base=replace(made.base, fingerprint=fingerprint(model)), init=init)
    if not made.converted_paths:
        warnings.warn(
            "no convolution of this model can be converted; see the reasons in the plan", NoEffectWarning, stacklevel=2
        )
    on_step("rewriting", 0.0)
    converted, made = _operate(model, inputs, made, seed)
    explained = None
    if init is not None:
        explained = begin(model, converted, inputs, made, data, seed, on_step)
    on_step("proving", 0.0)
    check = partial(prove, model, converted, inputs, paths=made.converted_paths, tolerance=tolerance, seed=seed)
    equivalence = check(trials=trials, mode=mode, on_trial=lambda done: on_step("proving", done / trials))
    if mode == "train":
        equivalence = worse_of(equivalence, check(trials=1))
    if not equivalence.bit_equal and made.converted_paths:
        equivalence = replace(equivalence, note=find_target(made.target).inexact)
    return Conversion(converted, made, equivalence, explained=explained)


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
    on_step: OnStep = _silent,
) -> Folding:
    """The fastest model for inference that computes what a trained converted model computes. ``model`` is not modified.

    Standardised kernels become constants; a batch norm that follows a layer alone goes into it; what is zero, and switches that
    do not depend on the input, are left out. A layer that never moved becomes the convolution that it was made from, to the bit,
    and keeps its norm. The folded model is in eval mode and cannot be trained.

    Args:
        model: Any module that has converted layers, of whatever target.
        example_inputs: What to look at the model with and to prove on. Without them nothing is proved, and norms are folded only
            where a torch.fx trace of the whole model shows them; a model that takes optional arguments is not traced.
        fold_norms: Fold the norms behind layers that never moved, and behind plain convolutions, as well.
        tolerance: Also take out parts of switchable layers, as long as the output of each layer moves by no more than this,
            relative, in the 2-norm, on ``example_inputs``; give real images. ``cost`` says what it did to the model's outputs.
        trials: On how many inputs the proof compares; the first is ``example_inputs``.
        allowed: What passes as equal in the proof, relative to the largest output. Default: 1e-5, more in half precision, and
            whatever float32 rounds where the same folding in float64 moves nothing.
        seed: Of the random inputs.
        base: Where the model came from, for the record.
        on_step: Told about progress.

    Raises:
        UsageError: A tolerance without inputs, or one that is no share.
        ModelError: The model cannot be copied, or the folded one cannot be run.
    """
    if tolerance is not None and (
        example_inputs is None or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1
    ):
        seen = "no example_inputs" if example_inputs is None else repr(tolerance)
        raise UsageError(f"a tolerance is a share below 1 of the outputs for example_inputs; given was {seen}")
    model, inputs = _opened(model, () if example_inputs is None else example_inputs)
    _check_weights(model)
    if example_inputs is None:
        operated = fold_layers(model, None, fold_norms=fold_norms)
        again = partial(folded_twin, inputs=None, fold_norms=fold_norms)
        return Folding(operated.model, operated.layers, again, base=base or Base())
    subject, cost = model, None
    removed: dict[str, Removed] = {}
    if tolerance is not None:
        subject, removed = simplify(model, inputs, tolerance, seed, lambda done: on_step("simplifying", done))
        cost = compare_outputs(model, subject, align(tree(model), tree(subject)), inputs, seed)
    on_step("folding", 0.0)
    limit = allowed_for(model) if allowed is None else allowed

    def proved(made: Operated) -> Equivalence:
        return prove(
            subject,
            made.model,
            inputs,
            paths=list(made.behind),
            trials=trials,
            tolerance=limit,
            seed=seed,
            behind=made.behind,
            on_trial=lambda done: on_step("proving", done / trials),
        )

    with exact_convolutions():
        operated, equivalence = fold_proved(subject, inputs, fold_norms, seed, proved, rounding=allowed is None)
    if equivalence.passed:  # every folded layer moves by rounding
        equivalence = replace(equivalence, first_moved=None)
    if removed:
        notes = [
            *([equivalence.note] if equivalence.note else []),
            "compared with the model without what was taken out of it",
        ]
        equivalence = replace(equivalence, note="; ".join(notes))
    layers = tuple(
        replace(row, removed=removed[row.path].parts, cost=removed[row.path].cost) if row.path in removed else row
        for row in operated.layers
    )
    again = partial(folded_twin, inputs=inputs, fold_norms=fold_norms, tolerance=tolerance, seed=seed)
    return Folding(operated.model, layers, again, equivalence, tolerance, cost, base or Base())


C = TypeVar("C", Conversion, Folding)


def price(
    conversion: C,
    original: nn.Module,
    example_inputs: Any,
    *,
    name: str | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    on_step: OnStep = _silent,
) -> C:
    """``conversion``, or a folding, with the profiles of ``original`` and of the new model, timed alternately in one run.

    ``timing`` says how; None leaves time out.
    """
    original, inputs = _opened(original, example_inputs)
    _check_weights(original)
    label = name or type(original).__name__
    names = (label, f"{label}, {'folded' if isinstance(conversion, Folding) else 'converted'}")
    found = profile_together((original, conversion.model), inputs, names, timing, on_step)
    return replace(
        conversion,
        before=found.profiles[0],
        after=found.profiles[1],
        latency_ratio=found.latency_ratio,
        latency_ratios=found.latency_ratios,
        training_ratio=found.training_ratio,
    )


def profile(
    model: nn.Module,
    example_inputs: Any,
    *,
    name: str | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    on_step: OnStep = _silent,
) -> Profile:
    """Parameters, MACs, FLOPs, activations, memory and latency of ``model``, which is left as it was.

    A model on the meta device, which has no weights, is counted without running it.

    Args:
        model: Any module.
        example_inputs: What it is run on.
        name: What to call it.
        timing: How time is measured: budget, batch sizes, autocast, ``torch.compile``, threads, training steps; None leaves time
            out.
        on_step: Told about progress.

    Raises:
        ModelError: The model cannot be compiled, trained, or run at a batch size that was asked for.
    """
    model, inputs = _opened(model, example_inputs)
    if is_abstract(model):
        timing = None
    return profile_together((model,), inputs, (name or type(model).__name__,), timing, on_step).profiles[0]


def diff(
    a: nn.Module,
    b: nn.Module,
    example_inputs: Any,
    *,
    names: tuple[str, str] | None = None,
    timing: Timing | None = Timing(),  # noqa: B008 - frozen
    on_step: OnStep = _silent,
) -> Diff:
    """Structure, price, weights and outputs of two variants; ratios are b/a.

    Parts are aligned by path, those that were renamed by what they are, those of a ``Sequential`` by order.

    Args:
        a: Any module.
        b: Any module that runs on the same inputs.
        example_inputs: What both are run on.
        names: What to call them.
        timing: How time is measured; None leaves time out.
        on_step: Told about progress.
    """
    a, inputs = _opened(a, example_inputs)
    b, _ = _opened(b, inputs)
    _check_weights(a, b)
    titles = names or (type(a).__name__, type(b).__name__)
    found = profile_together((a, b), inputs, titles, timing, on_step)
    on_step("comparing", 0.0)
    matches = align(tree(a), tree(b))
    return Diff(
        a=found.profiles[0],
        b=found.profiles[1],
        structure=changes_of(matches),
        weights=compare_weights(a, b, matches),
        outputs=compare_outputs(a, b, matches, inputs),
        latency_ratio=found.latency_ratio,
        latency_ratios=found.latency_ratios,
        training_ratio=found.training_ratio,
        layers=layer_pairs(matches, *([row.path for row in p.layers] for p in found.profiles)),
        freedom_a=freedom(a, inputs),
        freedom_b=freedom(b, inputs),
    )


def _opened(model: Any, example_inputs: Any) -> tuple[nn.Module, Inputs]:
    """The module that is meant, out of its wrappers or out of an exported program, and its inputs."""
    inputs = Inputs.of(example_inputs)
    if isinstance(model, ExportedProgram):
        return program_of(model).module, inputs
    if isinstance(model, torch.jit.ScriptModule):
        return program_of_script(model, inputs).module, inputs
    model = unwrapped(model)
    if any(nn.parameter.is_lazy(p) for p in [*model.parameters(), *model.buffers()]):
        raise ModelError(f"{type(model).__name__} has lazy modules without weights yet; run it once on an input first")
    return model, inputs


def _see(model: nn.Module, inputs: Inputs, mode: Mode, on_step: OnStep) -> tuple[Census, tuple[ConvSite, ...]]:
    _check_weights(model)
    on_step("looking", 0.0)
    census = take_census(model, inputs, mode)
    on_step("tracing", 0.5)
    return census, add_context(model, census, mode)


def _in_training(model: nn.Module, inputs: Inputs) -> tuple[ConvSite, ...]:
    """What follows each convolution in training, where another part may read it; nothing where the model cannot be run so."""
    try:
        return add_context(model, take_census(model, inputs, "train"), "train")
    except Exception:  # a batch of one, for a norm, or targets for a loss that are not given
        return ()


def _check_weights(*models: nn.Module) -> None:
    for model in models:
        if is_abstract(model):
            raise ModelError(
                f"{type(model).__name__} is on the meta device and has no weights; build it on a real one, or load its weights"
            )


def _operate(model: nn.Module, inputs: Inputs, plan: Plan, seed: int) -> tuple[nn.Module, Plan]:
    """Applies ``plan``; refuses afterwards what turns out not to be called, and starts again from the original."""
    calls = {site.path: site.calls for site in plan.sites if site.converts}

    def operated(plan: Plan) -> nn.Module:
        with preserved_randomness():
            seed_all(seed)  # of layers that begin at random
            return apply(model, plan)

    converted = operated(plan)
    try:
        lost = unreached(converted, inputs, calls, plan.mode)
    except Exception as error:
        raise ModelError(
            f"the converted {type(model).__name__} cannot be run, although the original can ({type(error).__name__}: "
            f"{first_line(error)}); does it look for nn.Conv2d among its modules? Leave such layers out with exclude"
        ) from error
    if not lost:
        return converted, plan
    plan = planning.refuse(plan, lost, HELD_OUTSIDE)
    return operated(plan), plan


__all__ = ["Equivalence", "convert", "diff", "fold", "inspect", "make_plan", "price", "profile"]
