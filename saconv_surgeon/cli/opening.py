"""From the command line's arguments to a model that runs: module, inputs, device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saconv_surgeon.cli.model_and_input_options import InputOptions, ModelOptions, TrainedModelOptions
from saconv_surgeon.cli.result_options import TalkOptions
from saconv_surgeon.cli.saved_conversions import load_saved
from saconv_surgeon.cli.streams import say
from saconv_surgeon.errors import (
    ModelError,
    UntrustedError,
    UsageError,
    UserCodeError,
    first_line,
    raised_as,
)
from saconv_surgeon.integrations.load_with_layers import load_with_layers
from saconv_surgeon.models.exported.guarded_run import run_guarded
from saconv_surgeon.models.exported.read_program import Program, program_of_script
from saconv_surgeon.models.loading.factories import is_place, split_factory
from saconv_surgeon.models.loading.input_spec import NoInputsError, make_inputs, offered_inputs
from saconv_surgeon.models.loading.libraries.known_libraries import split_library
from saconv_surgeon.models.loading.model_spec import LoadedModel
from saconv_surgeon.models.loading.offered_factories import offered_by
from saconv_surgeon.models.loading.users_code import process_kept
from saconv_surgeon.models.running.abstract import drop_weights, faked, is_abstract, without_weights
from saconv_surgeon.models.running.data_batches import inputs_of_batch
from saconv_surgeon.models.running.fitting_inputs import fitted
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.recursion import room_for
from saconv_surgeon.models.tree.wrappers import unwrapped
from saconv_surgeon.records import Base, Mode, Plan
from saconv_surgeon.report.human import shape
from saconv_surgeon.surgery.plan_file import PLAN, conversion_file


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that has run once on its inputs; ``checkpoint`` and ``program`` are what it was found in, if anything.

    ``earlier`` is the plan of the conversion that it is, if it is one that was saved to a folder.
    """

    model: nn.Module
    inputs: Inputs
    name: str
    base: Base
    checkpoint: Mapping[str, Any] | None = None
    program: Program | None = None
    earlier: Plan | None = None


def open_model(
    spec: str,
    source: ModelOptions | TrainedModelOptions,
    run_on: InputOptions,
    talk: TalkOptions,
    *,
    mode: Mode = "eval",
    abstract: bool = False,
    inputs: Inputs | None = None,
) -> Opened:
    """Loads the model, makes its inputs unless they are given, moves both to the device, and runs it once to see that it does.

    An ``abstract`` model has its parameters on the meta device and is run on shapes alone.

    Raises:
        SurgeonError: A mistake of the user, or an exception in the user's code.
    """
    device, dtype = torch.device("cpu") if abstract else _device(run_on.device), _dtype(run_on.dtype)
    torch.manual_seed(run_on.seed)
    seed = run_on.seed
    with raised_as(ModelError, f"{spec} cannot be read"):
        loaded = _load_abstract(spec, source, talk, seed) if abstract else _load(spec, source, seed)
    if inputs is None:
        with raised_as(UsageError, f"{spec} gets no inputs from {' '.join(run_on.inputs) or 'its source'}"):
            inputs = make_inputs(run_on.inputs, seed=seed) if run_on.inputs else offered_inputs(loaded)
    if isinstance(loaded.module, torch.jit.ScriptModule):
        program = program_of_script(loaded.module, inputs)
        loaded = replace(loaded, module=program.module, program=program)
    with room_for(loaded.module, inputs.args, inputs.kwargs):
        with raised_as(ModelError, f"{loaded.name} cannot be put on {device}"):
            model, inputs = _prepared(loaded, inputs, run_on, device, dtype, abstract=abstract)
        _check_runs(model, inputs, loaded, mode)
    weights = str(source.weights) if source.weights else None
    base = Base(model=spec, weights=weights, inputs=run_on.inputs, pretrained=source.pretrained)
    return Opened(model, inputs, loaded.name, base, loaded.checkpoint, loaded.program, loaded.earlier)


def open_for_data(
    spec: str,
    source: ModelOptions,
    run_on: InputOptions,
    talk: TalkOptions,
    data: Iterator[Any] | None,
    *,
    mode: Mode = "eval",
) -> tuple[Opened, Iterator[Any] | None]:
    """As :func:`open_model`; if nothing else says what the model is run on, it is the first batch of ``data``.

    The batches are given back, the first among them.
    """
    try:
        return open_model(spec, source, run_on, talk, mode=mode), data
    except NoInputsError:
        if data is None:
            raise
    first = next(data, None)
    if first is None:
        raise UsageError("data has no batches")
    inputs = inputs_of_batch(first, None, None)
    return open_model(spec, source, run_on, talk, mode=mode, inputs=inputs), chain([first], data)


def _prepared(
    loaded: LoadedModel,
    inputs: Inputs,
    run_on: InputOptions,
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    abstract: bool,
) -> tuple[nn.Module, Inputs]:
    """The model and its inputs on the device, in the dtype and the memory format that were asked for."""
    model = unwrapped(loaded.module)
    if loaded.checkpoint is not None:
        model = copy_model(model)  # the one in the checkpoint is written back as it is
    if abstract:
        if any(nn.parameter.is_lazy(p) for p in model.parameters()):
            raise ModelError(
                f"{loaded.name} has lazy modules, whose shapes only a run shows; profile it without --abstract"
            )
        drop_weights(model)
    model = model.to(device=None if abstract else device, dtype=dtype)
    if run_on.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = fitted(inputs, model)
    if run_on.batch_axis is not None or loaded.batch_axis:
        inputs = inputs.along(loaded.batch_axis if run_on.batch_axis is None else run_on.batch_axis)
    inputs = inputs.to(device, dtype or _dtype_of(model), channels_last=run_on.channels_last)
    return model, inputs


def _load_abstract(spec: str, source: ModelOptions | TrainedModelOptions, talk: TalkOptions, seed: int) -> LoadedModel:
    """The model without weights; built with them, and then without, if its constructor needs to look at them."""
    if source.weights is not None or source.pretrained:
        raise UsageError("--abstract looks at shapes alone; leave --weights and --pretrained out")
    if split_factory(spec) is None and split_library(spec) is None:
        return _load(spec, source, seed)  # a file has its weights in it
    try:
        with without_weights():
            return _load(spec, source, seed)
    except Exception:
        pass  # an error that has nothing to do with the weights is raised again below
    loaded = _load(spec, source, seed)
    say(f"{loaded.name} cannot be built without weights: built with them, then counted on shapes alone", talk.quiet)
    return loaded


def _load(spec: str, source: ModelOptions | TrainedModelOptions, seed: int) -> LoadedModel:
    folder = Path(spec)
    is_package = bool(offered_by(folder / "__init__.py")) and not is_place(conversion_file(folder, PLAN), Path.is_file)
    if is_package or not is_place(folder, Path.is_dir):
        return load_with_layers(spec, weights=source.weights, trust=source.trust, pretrained=source.pretrained)
    return load_saved(spec, source, seed)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}; use auto, cpu, cuda or cuda:N") from None
    if (
        device.type not in ("cpu", "cuda")
        and not getattr(getattr(torch, device.type, None), "is_available", lambda: False)()
    ):
        raise UsageError(f"no device {name!r} here; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"no device {name!r} here: {torch.cuda.device_count()} CUDA devices are visible; use --device cpu"
        )
    return device


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else getattr(torch, name)


def _dtype_of(model: nn.Module) -> torch.dtype | None:
    """The dtype that a model saved in half precision wants its inputs in; None leaves the inputs as they are."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else None


def _check_runs(model: nn.Module, inputs: Inputs, loaded: LoadedModel, mode: Mode) -> None:
    try:
        if is_abstract(model):
            with faked(model, inputs) as (stand_in, fakes):
                fakes.run(stand_in)
        else:
            with process_kept(), preserved(model, mode):
                run_guarded(model, inputs, loaded.name) if loaded.guarded else inputs.run(model)
    except UntrustedError:
        raise
    except Exception as error:
        sizes = ", ".join(map(shape, inputs.shapes)) or "no tensors"
        if is_abstract(model):
            raise ModelError(
                f"{loaded.name} cannot be run on shapes alone, {sizes} ({type(error).__name__}: {first_line(error)}); if it "
                "computes with values, profile it without --abstract"
            ) from error
        if loaded.program is not None:  # no code of the user's to look at
            raise ModelError(
                f"{loaded.name} cannot be run on {sizes} ({type(error).__name__}: {first_line(error)}); give other inputs with "
                "--input, or export the model again"
            ) from error
        raise UserCodeError(
            f"{loaded.name} raised {type(error).__name__} when run on {sizes}: {error}\n"
            "If the inputs are not what it needs, give others with --input"
        ) from error
