"""The folder of a saved conversion as MODEL: its original is built, converted, and given the saved weights."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saconv_surgeon.cli.model_and_input_options import ModelOptions, TrainedModelOptions
from saconv_surgeon.errors import ArtefactError, ModelError, UntrustedError, UsageError, visible
from saconv_surgeon.integrations.load_with_layers import load_with_layers
from saconv_surgeon.models.loading.code_places import leave_working_folder
from saconv_surgeon.models.loading.factories import is_place
from saconv_surgeon.models.loading.input_spec import are_sizes, make_inputs
from saconv_surgeon.models.loading.libraries.known_libraries import split_library
from saconv_surgeon.models.loading.model_spec import LoadedModel, is_data
from saconv_surgeon.models.loading.users_code import barred
from saconv_surgeon.models.loading.weight_files import read_weights
from saconv_surgeon.models.loading.weight_fitting import fit_weights
from saconv_surgeon.models.running.described_inputs import remade
from saconv_surgeon.models.tree.fingerprint import tensor_digests
from saconv_surgeon.records import Plan
from saconv_surgeon.saving.delta import check_original
from saconv_surgeon.saving.restore import restore
from saconv_surgeon.saving.seal import Origin, model_places, needs_working_folder, origin_of
from saconv_surgeon.surgery.plan_file import PLAN, is_delta, plan_of, read_plan_file


def load_saved(spec: str, source: ModelOptions | TrainedModelOptions, seed: int) -> LoadedModel:
    """The converted model in the folder ``spec``, with its inputs.

    Raises:
        UsageError: Options that a conversion has no use for, or no original is named.
        UntrustedError: The original is code that is not the user's own.
        ArtefactError: The folder is incomplete or damaged.
    """
    folder = Path(spec)
    content = read_plan_file(folder)
    plan = plan_of(content, folder / PLAN)
    if source.pretrained and not (is_delta(content) or plan.base.pretrained):
        raise UsageError(f"{folder} is a conversion and has its own weights; --pretrained is for a library's models")
    base = source.base or _recorded_base(content, folder)
    original = _original(folder, content, plan, base, source, with_weights=is_delta(content))
    converted = restore(original.module, folder)
    if source.weights is not None:  # what a training made of it
        fit_weights(converted, read_weights(source.weights, trust=source.trust), str(source.weights))
    axis = 0 if plan.inputs is None else plan.inputs.batch_axis or 0
    earlier = replace(plan, base=replace(plan.base, model=base))
    inputs = _inputs_of(plan, original, folder, seed)
    return LoadedModel(converted, spec, inputs, batch_axis=axis, earlier=earlier, guarded=original.guarded)


def plan_to_keep(spec: str) -> Path | None:
    """The plan in the folder ``spec`` if that leaves tensors to its original: without other orders it is written as it is."""
    return Path(spec) / PLAN if is_delta(read_plan_file(Path(spec))) else None


def base_tensors(spec: str, source: ModelOptions) -> dict[str, str]:
    """The sha256 of each tensor of the original of the conversion in the folder ``spec``.

    Raises:
        UntrustedError: The original is code that is not the user's own.
        ArtefactError: What is built has other weights.
    """
    folder = Path(spec)
    content = read_plan_file(folder)
    plan = plan_of(content, folder / PLAN)
    base = source.base or _recorded_base(content, folder)
    original = _original(folder, content, plan, base, source, with_weights=True)
    check_original(original.module, plan, folder)
    return tensor_digests(original.module)


def _original(
    folder: Path,
    content: Mapping[str, Any],
    plan: Plan,
    base: str,
    source: ModelOptions | TrainedModelOptions,
    *,
    with_weights: bool,
) -> LoadedModel:
    """The original of a conversion; without its weights unless they are wanted, since the folder has them."""
    if is_place(Path(base), Path.is_dir):
        raise ModelError(f"the base of {folder} is the folder {base}; give the original model as --base MODEL")
    weights = _base_weights(folder, plan, source) if with_weights else None
    load = partial(load_with_layers, weights=weights, trust=source.trust, pretrained=with_weights and source.pretrained)
    vouched_for = source.base or source.trust
    original = load(base) if vouched_for else _load_named_by_plan(base, content.get("seal"), folder, load)
    if with_weights:
        _cast_as_recorded(original.module, plan)
    return original


def _base_weights(folder: Path, plan: Plan, source: ModelOptions | TrainedModelOptions) -> Path | None:
    """The file of the original's weights: the one that is given, or the one that they came from.

    Raises:
        UsageError: It is not there, or the weights are those that a library publishes, which are not fetched unasked.
    """
    if source.base_weights is not None or source.base is not None:
        return source.base_weights
    if plan.base.pretrained and not source.pretrained:
        raise UsageError(
            f"{folder} leaves to its original, {visible(str(plan.base.model))}, what training did not move: the weights that its "
            "library publishes; give --pretrained to use them, or a file of them as --base-weights FILE"
        )
    if plan.base.weights is None:
        return None
    recorded = Path(plan.base.weights)
    if not is_place(recorded, Path.exists):
        raise UsageError(
            f"{folder} leaves to its original the weights of {visible(str(recorded))}, which is not there; give the file as "
            "--base-weights FILE"
        )
    return recorded


def _cast_as_recorded(original: nn.Module, plan: Plan) -> None:
    """In place: a conversion that was made with ``--dtype`` has an original of that dtype."""
    kinds = {site.arguments.dtype for site in plan.sites if site.converts and site.arguments is not None}
    dtype = getattr(torch, kinds.pop(), None) if len(kinds) == 1 else None
    if isinstance(dtype, torch.dtype) and {p.dtype for p in original.parameters() if p.is_floating_point()} != {dtype}:
        original.to(dtype)


def _load_named_by_plan(base: str, seal: object, folder: Path, load: Callable[[str], LoadedModel]) -> LoadedModel:
    """The model that a plan names, if it is data or the user's own code; modules in the working folder only if they were there.

    Raises:
        UntrustedError: It is other code, or the name stands for other files than it did.
    """
    origin = origin_of(base, seal)
    if origin is Origin.OWN_HERE:
        return load(base)
    if origin is Origin.FOREIGN and not (
        is_data(base) and (split_library(base) is None or not needs_working_folder(base))
    ):
        places = model_places(base)
        raise UntrustedError(
            f"{folder} was not converted here, and the model that its plan names is code: {visible(base)}"
            + (f" (here that is {places[-1]})" if places else "")
            + f"\nIf you know that code, give it as --base {visible(shlex.quote(base))}; "
            + "if you trust whoever made the folder, give --trust"
        )
    leave_working_folder()
    with barred(Path.cwd()):
        return load(base)


def _inputs_of(plan: Plan, original: LoadedModel, folder: Path, seed: int) -> Callable[[], Any] | None:
    """What a conversion was made on: from the same sizes, from its model's own source, or from their description."""
    recorded, given = plan.inputs, plan.base.inputs
    if given and are_sizes(given):
        return lambda: make_inputs(given, seed=seed)
    came_with_the_model = plan.base.model is not None and not given
    if recorded is None or (came_with_the_model and original.example_inputs is not None):
        return original.example_inputs
    if recorded.problem is not None:
        what = " ".join(given) or "what it was converted with"
        error = UsageError(f"{folder} was converted on inputs of which {recorded.problem}; give --input {what}")
        return partial(_raise, error)
    return lambda: remade(recorded, seed)


def _raise(error: Exception) -> None:
    raise error


def _recorded_base(content: Mapping[str, Any], folder: Path) -> str:
    base = content.get("base") or {}
    recorded = base.get("model") if isinstance(base, Mapping) else base
    if recorded is None:
        raise UsageError(f"{folder / PLAN} does not say which model it was made from; give it as --base MODEL")
    if not isinstance(recorded, str):
        raise ArtefactError(
            f"{folder / PLAN} names {recorded!r:.60} as its model, which is not a name; give it as --base MODEL"
        )
    return recorded
