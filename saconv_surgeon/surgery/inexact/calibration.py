"""Fitting new layers to what the convolutions gave, one after the other, on a few batches of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import absorbed_parts, first_calls, follower
from saconv_surgeon.models.running.state import preserved


def calibrate(
    original: nn.Module,
    converted: nn.Module,
    batches: Sequence[Inputs],
    calls: Mapping[str, int],
    *,
    seed: int = 0,
    on_layer: Callable[[int], None] = lambda done: None,
) -> tuple[str, ...]:
    """Fits the layers of ``converted`` in place, in the order of their first call.

    Each layer is given the inputs that it gets after the layers that were fitted before it, and has to give what the convolution
    gives in the original model: so it also makes up for what those could not express.

    Args:
        original: The model as it was; left so.
        converted: The model after surgery.
        batches: What to run them on.
        calls: How often each converted layer is called in a run.
        seed: For random numbers that the models draw.
        on_layer: Called after each layer with the number done.

    Returns:
        The paths of layers that got no usable inputs, and stay as they were.
    """
    left = []
    for done, (path, times) in enumerate(calls.items(), 1):
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        layer = converted.get_submodule(path)
        assert isinstance(layer, ConvertedLayer)
        follow = follower(original, absorbed_parts(layer.absorbed))
        for batch in batches:
            wanted = first_calls(original, batch, path, times, seed)
            given = first_calls(converted, batch, path, times, seed)
            for (_, convolved), (seen, output) in zip(wanted, given, strict=False):
                target = _in_eval(original, follow, convolved)
                if target.shape == output.shape and bool(seen.isfinite().all()) and bool(target.isfinite().all()):
                    inputs.append(seen if seen.dim() == 4 else seen.unsqueeze(0))
                    outputs.append(target if target.dim() == 4 else target.unsqueeze(0))
        if inputs:
            layer.fit(inputs, outputs)
        else:
            left.append(path)
        on_layer(done)
    return tuple(left)


def _in_eval(model: nn.Module, follow: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    with preserved(model), torch.no_grad():
        return follow(output)
