"""The whole price of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.state import preserved
from saconv_surgeon.profiling.counting import count
from saconv_surgeon.profiling.memory import peak_memory_bytes
from saconv_surgeon.records import Latency, Profile


def profile_model(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    name: str,
    device: torch.device,
    latency: Latency | None = None,
) -> Profile:
    """Parameters, counts and peak memory of ``model``, which is left as it was. A shared parameter counts once."""
    parameters = list(model.parameters())
    counts = count(model, args, kwargs)
    with preserved(model), torch.no_grad():
        memory = peak_memory_bytes(lambda: model(*args, **kwargs), device)
    return Profile(
        model=name,
        parameters=sum(p.numel() for p in parameters),
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        macs=counts.macs,
        flops=counts.flops,
        fvcore_flops=counts.fvcore_flops,
        activations=counts.activations,
        uncounted_ops=counts.uncounted_ops,
        latency=latency,
        peak_memory_bytes=memory,
        layers=counts.layers,
        input_shapes=Inputs(args, kwargs).shapes,
        dtype=str(next(iter(parameters), torch.empty(0)).dtype).removeprefix("torch."),
        device=str(device),
        engine=counts.engine,
        note=counts.note,
    )
