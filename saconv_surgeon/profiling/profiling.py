"""The whole price of one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from saconv_surgeon.models.abstract import is_abstract
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.state import preserved
from saconv_surgeon.profiling.counting import count
from saconv_surgeon.profiling.environment import conditions
from saconv_surgeon.profiling.memory import cuda_peak_bytes
from saconv_surgeon.records import Latency, Profile, TrainingCost


def profile_model(
    model: nn.Module,
    inputs: Inputs,
    *,
    name: str,
    device: torch.device,
    latencies: tuple[Latency, ...] = (),
    training: TrainingCost | None = None,
) -> Profile:
    """Parameters, counts and peak memory of ``model``, which is left as it was, with what was timed of it elsewhere."""
    parameters, buffers = list(model.parameters()), list(model.buffers())
    counts = count(model, inputs)
    peak, source = counts.peak_live_bytes, "live tensors"
    if device.type == "cuda":
        copies = inputs.copied()  # some models work in place
        resident = [*parameters, *buffers, *copies.tensors]
        with preserved(model), torch.no_grad():
            peak = cuda_peak_bytes(lambda: model(*copies.args, **copies.kwargs), device, resident)
        source = "CUDA allocator"
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    return Profile(
        model=name,
        parameters=total,
        trainable_parameters=trainable,
        frozen_parameters=total - trainable,
        shared_parameters=_shared(model),
        parameter_bytes=_bytes(parameters),
        buffers=sum(b.numel() for b in buffers),
        buffer_bytes=_bytes(buffers),
        macs=counts.macs,
        flops=counts.flops,
        fvcore_flops=counts.fvcore_flops,
        activations=counts.activations,
        ops=counts.ops,
        bytes_moved=counts.bytes_moved,
        uncounted_ops=counts.uncounted_ops,
        latency=latencies[0] if latencies else None,
        latencies=latencies,
        training=training,
        peak_memory_bytes=peak,
        peak_memory_source=source if peak is not None else None,
        layers=counts.layers,
        input_shapes=inputs.shapes,
        dtype=str(next(iter([*parameters, *inputs.tensors]), torch.empty(0)).dtype).removeprefix("torch."),
        device="meta" if is_abstract(model) else str(device),
        engine=counts.engine,
        cross_check=counts.cross_check,
        note=counts.note,
        environment=conditions(device),
    )


def _shared(model: nn.Module) -> int:
    """Elements of the parameters that more than one name leads to: they are counted once."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return sum(p.numel() for p in model.parameters() if uses[id(p)] > 1)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
