"""What each candidate of each layer costs: counted, and timed alone at the sizes, batch, layout and dtype that the model has.

All candidates of a layer are timed in turn with the convolution that they replace. Layers that are called in the same way are
timed once. A folded layer takes in the norm after it, so it is compared with the convolution and its norm, as folding leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from saconv_surgeon.convs.targets.known_targets import find_target
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.planning.candidates import everywhere
from saconv_surgeon.planning.layer_inputs import CallKind, LayerCalls, layer_calls
from saconv_surgeon.planning.layer_runs import forward, saved, step
from saconv_surgeon.planning.undisturbed import ProcessorTime, undisturbed
from saconv_surgeon.planning.variants import Variants
from saconv_surgeon.profiling.timing.alternating_runs import Run, measure
from saconv_surgeon.records import PlannedSite
from saconv_surgeon.records.budgeted_plan import Candidate, Price
from saconv_surgeon.records.progress import OnStep, silent

BUDGET_S = 20.0
"""Seconds for all layers together."""
LEAST_S, MOST_S = 0.1, 1.5
"""Seconds for the candidates of one kind of call."""
WARMUP_S = 0.01


@dataclass(frozen=True)
class Wanted:
    """Which figures are wanted besides parameters, MACs and the latency of the folded layer, which always are."""

    trained_latency: bool = False
    step: bool = False
    saved_bytes: bool = False


@dataclass(frozen=True)
class Role:
    """What is timed: candidate ``name`` as ``form``; ``norm`` is the class of the norm that went into it, if one did."""

    name: str
    form: str
    norm: str | None = None


@dataclass(frozen=True)
class WholeModel:
    """A model with one candidate everywhere: what was chosen, its converted and its folded form. For whoever times it."""

    candidate: Candidate
    names: Mapping[str, str]
    converted: nn.Module
    folded: nn.Module


Timed = dict[tuple[CallKind, Role, str], float]
"""What one call of a layer adds: seconds of the forms ``"folded"``, ``"trained"`` and of ``"step"``, bytes as ``"saved"``."""


@dataclass
class _Subjects:
    """What is to be timed, by kind of call: first for all layers, then once each."""

    plain: dict[CallKind, dict[str | None, nn.Module]] = field(default_factory=dict)
    modules: dict[CallKind, dict[Role, nn.Module]] = field(default_factory=dict)
    roles: dict[str, dict[str, dict[str, Role]]] = field(default_factory=dict)
    """By path, name of the candidate and form, the role."""


def price_candidates(
    variants: Variants,
    wanted: Wanted = Wanted(),
    *,
    budget_s: float = BUDGET_S,
    on_whole: Callable[[WholeModel], None] | None = None,
    on_step: OnStep = silent,
) -> dict[str, dict[str, Price]]:
    """By path and name of the candidate, its price.

    A figure that could not be had is None, as the latency of a layer that cannot be run by itself.

    Args:
        variants: The original, its inputs, and what is offered.
        wanted: Which figures.
        budget_s: Seconds for timing.
        on_whole: Called with each model that has one candidate everywhere, since these are made on the way.
        on_step: Called with what is being done and the share that is done.
    """
    offered = variants.offered
    sites = {site.path: site for site in offered.plan.sites if site.path in offered.candidates}
    calls = layer_calls(variants.model, variants.inputs, sites.values(), variants.seed)
    subjects = _Subjects()
    for i, candidate in enumerate(offered.names):
        on_step("folding candidates", i / len(offered.names))
        whole = _collect(variants, candidate, calls, wanted, subjects)
        if on_whole is not None:
            on_whole(whole)
    timed = _time_all(variants.model, subjects, calls, wanted, budget_s, on_step)
    return {
        path: {c.name: _price(site, c, subjects.roles[path][c.name], calls, timed) for c in offered.candidates[path]}
        for path, site in sites.items()
    }


def counted_price(site: PlannedSite, candidate: Candidate) -> Price:
    """Parameters and MACs of the layer as it is trained; a folded one may need fewer."""
    target = find_target(candidate.target)
    assert site.arguments is not None
    cost = target.added(site.arguments, site.shapes, {**target.parse(candidate.options), "allow_depthwise": True})
    return Price(cost.parameters, cost.macs)


def _collect(
    variants: Variants, candidate: Candidate, calls: LayerCalls, wanted: Wanted, subjects: _Subjects
) -> WholeModel:
    """Converts and folds every layer that has ``candidate``, and keeps one layer for each kind of call."""
    choices = everywhere(variants.offered, candidate)
    converted = variants.converted(choices)
    made = variants.folding(converted)
    trained = wanted.trained_latency or wanted.step or wanted.saved_bytes
    for path in choices:
        row = made.following.get(path)
        norm_path = row.original[0] if row is not None and row.original else None
        norm = None if norm_path is None else variants.model.get_submodule(norm_path)
        label = None if norm is None else f"{type(norm).__name__}"
        forms: dict[str, nn.Module] = {"folded": made.model.get_submodule(path)}
        if trained:
            forms["trained"] = converted.get_submodule(path)
        roles = {form: Role(candidate.name, form, label if form == "folded" else None) for form in forms}
        subjects.roles.setdefault(path, {})[candidate.name] = roles
        conv = variants.model.get_submodule(path)
        for kind in calls.calls[path]:
            plain = subjects.plain.setdefault(kind, {})
            plain.setdefault(None, conv)
            if norm is not None and label not in plain:
                plain[label] = nn.Sequential(conv, norm)
            for form, module in forms.items():
                subjects.modules.setdefault(kind, {}).setdefault(roles[form], module)
    return WholeModel(candidate, dict.fromkeys(choices, candidate.name), converted, made.model)


def _time_all(
    model: nn.Module, subjects: _Subjects, calls: LayerCalls, wanted: Wanted, budget_s: float, on_step: OnStep
) -> Timed:
    timed: Timed = {}
    share = min(MOST_S, max(LEAST_S, budget_s / max(1, len(subjects.modules))))
    with preserved(model):
        for i, (kind, modules) in enumerate(subjects.modules.items()):
            on_step("timing layers", i / len(subjects.modules))
            plain, given = subjects.plain[kind], calls.examples[kind]
            timed |= _forwards(kind, plain, modules, wanted, given, share)
            if wanted.step or wanted.saved_bytes:
                timed |= _training(kind, plain[None], modules, wanted, given, share)
    return timed


def _forwards(
    kind: CallKind,
    plain: Mapping[str | None, nn.Module],
    modules: Mapping[Role, nn.Module],
    wanted: Wanted,
    given: Tensor,
    share: float,
) -> Timed:
    roles = {role: m for role, m in modules.items() if role.form == "folded" or wanted.trained_latency}
    roles = {role: m for role, m in roles.items() if _runs(m, kind, given)}
    if not all(_runs(m, kind, given) for m in plain.values()):
        return {}
    runs = [forward(m, kind, given) for m in (*plain.values(), *roles.values())]
    samples = _measured(runs, kind, share)
    before = dict(zip(plain, samples, strict=False))
    after = dict(zip(roles, samples[len(plain) :], strict=True))
    return {(kind, role, role.form): _apart(before[role.norm], after[role]) for role in roles}


def _apart(before: np.ndarray, after: np.ndarray) -> float:
    """Seconds between two series. Their lower quartiles: what else runs on the machine only ever adds."""
    return float(np.percentile(after, 25) - np.percentile(before, 25))


def _training(
    kind: CallKind, plain: nn.Module, modules: Mapping[Role, nn.Module], wanted: Wanted, given: Tensor, share: float
) -> Timed:
    roles = [role for role in modules if role.form == "trained"]
    timed: Timed = {}
    try:
        if wanted.step:
            runs = [step(m, kind, given) for m in (plain, *(modules[role] for role in roles))]
            before, *after = _measured(runs, kind, share)
            timed |= {(kind, r, "step"): _apart(before, a) for r, a in zip(roles, after, strict=True)}
        if wanted.saved_bytes:
            own = saved(plain, kind, given)
            timed |= {(kind, role, "saved"): float(saved(modules[role], kind, given) - own) for role in roles}
    except Exception:  # what cannot be trained alone has no price
        return timed
    return timed


def _measured(runs: list[Run], kind: CallKind, share: float) -> list[np.ndarray]:
    """Seconds of each run, round by round."""
    meters = [ProcessorTime() for _ in runs]
    noted = [meter.of(run) for meter, run in zip(meters, runs, strict=True)]
    samples = measure(noted, kind.device, budget_s=share, warmup_s=WARMUP_S, min_warmup=2)
    return undisturbed(samples, meters, kind.device)


def _runs(layer: nn.Module, kind: CallKind, given: Tensor) -> bool:
    """Whether a layer can be run by itself: some need what the rest of the model has left behind."""
    try:
        forward(layer, kind, given).stages[0]()
    except Exception:
        return False
    return True


def _price(
    site: PlannedSite, candidate: Candidate, roles: Mapping[str, Role], calls: LayerCalls, timed: Timed
) -> Price:
    """The sum over all calls of a layer."""

    def total(form: str, figure: str) -> float | None:
        role = roles.get(form)
        own = calls.calls[site.path]
        if role is None or not own or any((kind, role, figure) not in timed for kind in own):
            return None
        return sum(n * timed[kind, role, figure] for kind, n in own.items())

    kept = total("trained", "saved")
    return replace(
        counted_price(site, candidate),
        latency_s=total("folded", "folded"),
        trained_latency_s=total("trained", "trained"),
        step_s=total("trained", "step"),
        saved_bytes=None if kept is None else round(kept),
    )
