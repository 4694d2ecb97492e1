"""The story of ``profile``: time the models in turn, count each, then time its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import first_line
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.running.abstract import is_abstract
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.run import rehearse
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.profiling.counting.count import count
from saconv_surgeon.profiling.energy.measure_energy import Measured, measure_energy
from saconv_surgeon.profiling.environment import conditions
from saconv_surgeon.profiling.memory import cuda_peak_bytes
from saconv_surgeon.profiling.roofline.layers_under_roofs import roofline_of
from saconv_surgeon.profiling.roofline.peaks import measure_peaks
from saconv_surgeon.profiling.timing.time_layers import time_layers
from saconv_surgeon.profiling.timing.time_models import resized, time_models
from saconv_surgeon.profiling.timing.training_layers import layers_in_training
from saconv_surgeon.profiling.timing.training_step import price_training
from saconv_surgeon.records import Latency, LatencyRatio, LayerCost, Profile, Timing, TrainingCost
from saconv_surgeon.records.progress import OnStep


def profile_model(
    model: nn.Module, example_inputs: Any, *, name: str | None, timing: Timing | None, on_step: OnStep
) -> Profile:
    """See :func:`saconv_surgeon.profile`."""
    model, inputs = opened(model, example_inputs)
    if is_abstract(model):
        timing = None
    return profile_together((model,), inputs, (name or type(model).__name__,), timing, on_step).profiles[0]


@dataclass(frozen=True)
class Together:
    """The profile of each model; of two, the ratios of their latencies and of their training steps."""

    profiles: tuple[Profile, ...]
    latency_ratios: tuple[LatencyRatio, ...] = ()
    training_ratio: LatencyRatio | None = None
    energy_ratio: LatencyRatio | None = None

    @property
    def latency_ratio(self) -> LatencyRatio | None:
        """The first of them."""
        return next(iter(self.latency_ratios), None)


def profile_together(
    models: Sequence[nn.Module], inputs: Inputs, names: Sequence[str], timing: Timing | None, on_step: OnStep
) -> Together:
    """Times the models in turn before anything is counted, then counts each, then times its layers; ``timing`` None leaves time
    out.
    """
    device = device_of(models[0])
    if timing is not None and timing.batch_axis is not None:
        inputs = inputs.along(timing.batch_axis)
    for model in models:
        rehearse(model, inputs)
    timed, costs, training_ratio = None, None, None
    if timing is not None:
        timed = time_models(models, inputs, device, timing, lambda done: on_step("timing", done))
        if timing.training:
            costs, training_ratio = price_training(
                models, inputs, device, timing, lambda done: on_step("timing training steps", done)
            )
    profiles = []
    for i, (model, name) in enumerate(zip(models, names, strict=True)):
        on_step("counting", i / len(models))
        latencies, training = timed.latencies[i] if timed else (), costs[i] if costs else None
        profiles.append(_profile(model, inputs, name=name, device=device, latencies=latencies, training=training))
    if timing is not None and timing.per_layer:
        for i, model in enumerate(models):
            on_step("timing layers", i / len(models))
            profiles[i] = _with_layer_times(profiles[i], model, inputs, timing)
    if timing is not None and timing.roofline:
        on_step("measuring what the machine can do", 0.0)
        peaks = measure_peaks(device, _dtype_of_work(models[0], inputs, timing), timing.threads)
        note = (
            None if timing.autocast is None else "FLOPs and bytes are those without autocast, the times those with it"
        )
        rooflines = [replace(roofline_of(each.layers, peaks), note=note) for each in profiles]
        profiles = [replace(each, roofline=found) for each, found in zip(profiles, rooflines, strict=True)]
    energy = Measured()
    if timing is not None and timing.energy:
        energy = measure_energy(models, inputs, device, timing, lambda done: on_step("measuring energy", done))
        profiles = [
            replace(each, energy=energy.energies[i] if energy.energies else None, energy_note=energy.note)
            for i, each in enumerate(profiles)
        ]
    return Together(tuple(profiles), timed.ratios if timed else (), training_ratio, energy.ratio)


def _dtype_of_work(model: nn.Module, inputs: Inputs, timing: Timing) -> torch.dtype:
    """In which most of the work is done: that of autocast, of the first floating parameter, of the inputs."""
    if timing.autocast is not None:
        found: torch.dtype = getattr(torch, timing.autocast)
        return found
    floating = (t.dtype for t in (*model.parameters(), *inputs.tensors) if t.is_floating_point())
    return next(floating, torch.float32)


def _profile(
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
        counted_by_formulas=counts.counted_by_formulas,
        broken_formulas=counts.broken_formulas,
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


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter or buffer of ``model``; the CPU if it has none."""
    first = next(iter(model.parameters()), next(iter(model.buffers()), None))
    return torch.device("cpu") if first is None else first.device


def _with_layer_times(profile: Profile, model: nn.Module, inputs: Inputs, timing: Timing) -> Profile:
    seconds = time_layers(model, inputs, device_of(model), timing)
    profile = replace(profile, layers=tuple(replace(row, latency_s=seconds.get(row.path)) for row in profile.layers))
    return profile if profile.training is None else _with_layers_in_training(profile, model, inputs, timing)


def _with_layers_in_training(profile: Profile, model: nn.Module, inputs: Inputs, timing: Timing) -> Profile:
    """The step itself has been timed, so what goes wrong here is about the hooks: the rest of the profile stands."""
    assert profile.training is not None
    inputs = resized(inputs, next(iter(timing.batches), None))
    try:
        found = layers_in_training(model, inputs, device_of(model), timing)
    except Exception as error:
        note = f"the layers could not be followed in training: {type(error).__name__}, {first_line(error)}"
        return replace(profile, training=replace(profile.training, layers_note=note))
    rows = {row.path: row for row in profile.layers}
    for path, each in found.items():
        if path in rows or each.backward_s or each.saved_bytes:
            row = rows.get(path) or _only_in_training(path, model)
            rows[path] = replace(row, backward_s=each.backward_s, saved_bytes=each.saved_bytes)
    order = {path: i for i, (path, _) in enumerate(model.named_modules())}
    known = [row.path for row in profile.layers]
    new = sorted((path for path in rows if path not in set(known)), key=lambda path: order.get(path, 0))
    return replace(profile, layers=tuple(rows[path] for path in (*known, *new)))


def _only_in_training(path: str, model: nn.Module) -> LayerCost:
    """The row of a module that does nothing itself in inference, and so far has none."""
    return LayerCost(path, type(model.get_submodule(path)).__name__, 0, 0, 0, 0, 0, 0, 0)


def _shared(model: nn.Module) -> int:
    """Elements of the parameters that more than one name leads to: they are counted once."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return sum(p.numel() for p in model.parameters() if uses[id(p)] > 1)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
