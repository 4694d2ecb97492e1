"""Whether converted layers also equal their convolutions while gradients are recorded, as in training.

A layer then computes by other operations. Its output must be equal to the bit and be laid out in memory in the same way: a norm
that follows adds in the order of the memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import absorbed_parts, follower, watched
from saconv_surgeon.models.running.run import run
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.records import Equivalence, Mode


def with_gradients(
    equivalence: Equivalence,
    original: nn.Module,
    converted: nn.Module,
    inputs: Inputs,
    paths: Iterable[str],
    seed: int,
    mode: Mode,
) -> Equivalence:
    """``equivalence``, not equal to the bit if a layer is not while gradients are recorded. Both models are left as they were."""
    moved = moved_with_gradients(original, converted, inputs, paths, seed, mode)
    if not moved:
        return equivalence
    problem = (
        f"{moved[0]}: with gradients on, its output differs from that of its convolution in bits or in memory format"
    )
    return replace(
        equivalence,
        bit_equal=False,
        first_moved=equivalence.first_moved or moved[0],
        problems=(*equivalence.problems, problem),
    )


def moved_with_gradients(
    original: nn.Module, converted: nn.Module, inputs: Inputs, paths: Iterable[str], seed: int, mode: Mode = "eval"
) -> tuple[str, ...]:
    """The layers that differ from their convolutions on the inputs that these get, each layer by itself."""
    moved: dict[str, None] = {}

    def compare(path: str, given: Tensor, output: Tensor) -> None:
        layer, conv = converted.get_submodule(path), original.get_submodule(path)
        after = follower(original, absorbed_parts(getattr(layer, "absorbed", {})))
        # a model may run in inference mode; what it makes there can have no gradient, a copy can
        with torch.inference_mode(False), torch.enable_grad():
            given = given.clone() if given.is_inference() else given
            wanted, found = after(type(conv).forward(conv, given)), layer(given)  # not by a call: it is being watched
        if not _same(wanted, found):
            moved[path] = None

    with preserved(converted, mode), watched(original, paths, compare):
        run(original, inputs, seed, mode)
    return tuple(moved)


def _same(a: Tensor, b: Tensor) -> bool:
    equal = (a == b) | (a.isnan() & b.isnan())
    return a.shape == b.shape and a.stride() == b.stride() and bool(equal.all())
