"""The story of ``diff``: price both models, align their parts, compare structure, weights, outputs and use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.nn import functional as F

from saconv_surgeon.comparing.aligning import align
from saconv_surgeon.comparing.layer_use import layer_use
from saconv_surgeon.comparing.outputs import compare_outputs
from saconv_surgeon.comparing.parts_of_model import tree
from saconv_surgeon.comparing.structure_changes import changes_of, layer_pairs
from saconv_surgeon.comparing.switch_maps import switch_maps
from saconv_surgeon.comparing.weights import compare_weights
from saconv_surgeon.models.loading.image_file import picture_as_input
from saconv_surgeon.models.loading.in_memory import check_weights, opened
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.profile import profile_together
from saconv_surgeon.records import Diff, ShownImage, Timing
from saconv_surgeon.records.progress import OnStep

THUMBNAIL = 112
"""Pixels of the picture that are kept along each side, at most."""


def diff_models(
    a: nn.Module,
    b: nn.Module,
    example_inputs: Any,
    *,
    names: tuple[str, str] | None,
    timing: Timing | None,
    image: str | Path | None = None,
    on_step: OnStep,
) -> Diff:
    """See :func:`saconv_surgeon.diff`."""
    a, inputs = opened(a, example_inputs)
    b, _ = opened(b, inputs)
    check_weights(a, b)
    shown = None if image is None else (_shown(Path(image), a, inputs), _shown(Path(image), b, inputs))
    found = profile_together((a, b), inputs, names or (type(a).__name__, type(b).__name__), timing, on_step)
    on_step("comparing", 0.0)
    matches = align(tree(a), tree(b))
    switches: dict[str, Any] = {}
    if shown is not None:
        switches = {
            "image": shown[0][0],
            "switches_a": switch_maps(a, shown[0][1]),
            "switches_b": switch_maps(b, shown[1][1]),
        }
    return Diff(
        a=found.profiles[0],
        b=found.profiles[1],
        structure=changes_of(matches),
        weights=compare_weights(a, b, matches),
        outputs=compare_outputs(a, b, matches, inputs),
        latency_ratio=found.latency_ratio,
        latency_ratios=found.latency_ratios,
        training_ratio=found.training_ratio,
        energy_ratio=found.energy_ratio,
        layers=layer_pairs(matches, *([row.path for row in p.layers] for p in found.profiles)),
        freedom_a=layer_use(a, inputs),
        freedom_b=layer_use(b, inputs),
        **switches,
    )


def _shown(path: Path, model: nn.Module, inputs: Inputs) -> tuple[ShownImage, Inputs]:
    """A picture as the record has it, and as an input of ``model``."""
    picture = picture_as_input(path, model, inputs)
    height, width = picture.grey.shape
    small = F.adaptive_avg_pool2d(picture.grey[None, None], (min(height, THUMBNAIL), min(width, THUMBNAIL)))[0, 0]
    grey = tuple(tuple(round(value, 2) for value in row) for row in small.tolist())
    return ShownImage(path.name, picture.normalised, grey), picture.inputs
