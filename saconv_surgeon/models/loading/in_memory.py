"""Models that are in memory already: taken out of their wrappers, and checked for weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.exported.read_program import program_of, program_of_script
from saconv_surgeon.models.running.abstract import is_abstract
from saconv_surgeon.models.running.fitting_inputs import fitted
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.wrappers import unwrapped


def opened(model: Any, example_inputs: Any) -> tuple[nn.Module, Inputs]:
    """The module inside its wrappers or inside an exported program, and its inputs.

    Raises:
        UsageError: A run would use the inputs up.
        ModelError: There is none, or its modules have no weights yet, or they were made in inference mode and cannot be copied.
    """
    inputs = Inputs.of(example_inputs)
    if isinstance(model, ExportedProgram):
        return program_of(model).module, inputs
    if isinstance(model, torch.jit.ScriptModule):
        return program_of_script(model, inputs).module, inputs
    model = unwrapped(model)
    inputs = fitted(inputs, model)
    if any(nn.parameter.is_lazy(p) for p in [*model.parameters(), *model.buffers()]):
        raise ModelError(f"{type(model).__name__} has lazy modules without weights yet; run it once on an input first")
    if any(t.is_inference() for t in inputs.tensors):
        inputs = inputs.copied()
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        model = copy_model(model)  # made in inference mode: outside of it, nothing could put back what a run changes
    return model, inputs


def check_weights(*models: nn.Module) -> None:
    """Checks that the models have weights.

    Raises:
        ModelError: One is on the meta device.
    """
    for model in models:
        if is_abstract(model):
            raise ModelError(
                f"{type(model).__name__} is on the meta device and has no weights; build it on a real one, or load its weights"
            )


def check_finite(model: nn.Module, name: str) -> None:
    """Refuses a model whose parameters hold NaN or infinities: nothing that it predicts can be compared.

    Raises:
        ModelError: Which parameter first, and how many values.
    """
    broken = {
        key: int((~values.isfinite()).sum())
        for key, p in model.named_parameters()
        if p.is_floating_point() and not p.is_meta
        for values in (_values_of(p),)
        if not bool(values.isfinite().all())
    }
    if broken:
        first = next(iter(broken))
        raise ModelError(
            f"{name} has NaN or infinite values in {len(broken)} of its parameters, first {first} ({broken[first]} values): "
            "the training diverged or the file is damaged; use an earlier checkpoint"
        )


def _values_of(parameter: nn.Parameter) -> torch.Tensor:
    """The values that a parameter holds, in a dtype that torch can test."""
    held = parameter.detach()
    if held.layout is torch.sparse_coo:
        held = held._values()
    elif held.layout is not torch.strided:
        held = held.values()
    return held.float() if held.element_size() == 1 else held
