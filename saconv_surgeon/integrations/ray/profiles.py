"""The price of many candidate architectures: ``profile`` over all of them, one process each.

::

    from saconv_surgeon.integrations.ray import profile_all, write_profiles

    found = profile_all(["timm:resnet18", "timm:resnet34", "nets.py:build"], "candidates", at_once=1)
    write_profiles(found, "candidates.html")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from saconv_surgeon import api
from saconv_surgeon.errors import UsageError
from saconv_surgeon.integrations.load_with_layers import load_with_layers
from saconv_surgeon.integrations.ray.trials import check_folder, reason_of, run_trials, write_report
from saconv_surgeon.models.loading.input_spec import make_inputs, offered_inputs
from saconv_surgeon.records import Profile, Timing, from_dict, to_dict
from saconv_surgeon.records.profiled_candidates import ProfiledCandidate, ProfiledCandidates
from saconv_surgeon.report.commands.profiled_candidates import candidates_report

Candidate = str | Callable[[], nn.Module]
"""A model as the command line takes it, or a function that makes it."""


def profile_all(
    candidates: Iterable[str] | Mapping[str, Candidate],
    folder: str | Path,
    *,
    example_inputs: Any = None,
    timing: Timing | None = Timing(per_layer=False),  # noqa: B008 - frozen
    resources: Mapping[str, float] | None = None,
    at_once: int = 1,
) -> ProfiledCandidates:
    """Profiles every candidate in a process of its own; what is in ``folder`` already is not run again.

    Args:
        candidates: Models as the command line takes them, which are their own names; or by name, also functions that make one.
        folder: Where Ray keeps the results. Called again with the same candidates, those that failed are run.
        example_inputs: What all of them are run on: tensors, or sizes as ``"1x3x224x224"``. None for what each of them offers;
            a function that makes a model offers nothing.
        timing: How time is measured; None leaves time out.
        resources: Of one candidate, as Ray has them: ``{"cpu": 2, "gpu": 1}``. One core if None.
        at_once: The most candidates at one time; 0 for as many as the resources allow. Latencies of candidates that run beside
            each other are those of a busy machine: more than one only where each has a machine or a device of its own, or
            without ``timing``.

    Returns:
        One profile for each candidate, or the reason why it could not be had.

    Raises:
        UsageError: There is nothing to profile, or ``folder`` holds other candidates.
    """
    known = dict(candidates) if isinstance(candidates, Mapping) else {spec: spec for spec in candidates}
    if not known:
        raise UsageError("there is no candidate to profile")
    place = Path(folder).absolute()
    setting = {"timing": None if timing is None else to_dict(timing), "inputs": _described(example_inputs)}
    check_folder(
        place,
        {
            name: {"model": model if isinstance(model, str) else "a function", **setting}
            for name, model in known.items()
        },
    )

    def run(name: str) -> dict[str, Any]:
        model, inputs = _opened(known[name], example_inputs)
        return {"profile": to_dict(api.profile(model, inputs, name=name, timing=timing))}

    results = run_trials(run, list(known), place, resources or {"cpu": 1}, at_once)
    found = {result.config["case"]: _candidate(result) for result in results}
    return ProfiledCandidates(tuple(found[name] for name in known))


def write_profiles(found: ProfiledCandidates, path: str | Path, name: str = "candidates") -> None:
    """Writes a report: ``.html``, ``.md``, ``.csv``, ``.svg``, or ``.json`` for the record.

    Raises:
        UsageError: A suffix that is none of these.
        ModelError: The file cannot be written.
    """
    write_report(path, to_dict(found), candidates_report(found, name))


def _opened(candidate: Candidate, example_inputs: Any) -> tuple[nn.Module, Any]:
    sizes = (example_inputs,) if isinstance(example_inputs, str) else None
    inputs = example_inputs if sizes is None else make_inputs(sizes, seed=0)
    if not isinstance(candidate, str):
        return candidate(), inputs
    loaded = load_with_layers(candidate)
    return loaded.module, offered_inputs(loaded) if inputs is None else inputs


def _candidate(result: Any) -> ProfiledCandidate:
    name = result.config["case"]
    if result.error is not None:
        return ProfiledCandidate(name, None, reason_of(result.error))
    return ProfiledCandidate(name, from_dict(Profile, result.metrics["profile"]))


def _described(inputs: Any) -> str:
    """What tells one set of inputs from another in the record of a folder: sizes, not values."""
    shape = getattr(inputs, "shape", None)
    if shape is not None:
        return f"{tuple(shape)} {inputs.dtype}"
    if isinstance(inputs, Mapping):
        return str({key: _described(value) for key, value in inputs.items()})
    return str([_described(value) for value in inputs]) if isinstance(inputs, (tuple, list)) else str(inputs)
