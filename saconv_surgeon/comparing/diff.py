"""The story of ``diff``: price both models, align their parts, compare structure, weights, outputs and use."""

from __future__ import annotations

from typing import Any

from torch import nn

from saconv_surgeon.comparing.aligning import align
from saconv_surgeon.comparing.layer_use import layer_use
from saconv_surgeon.comparing.outputs import compare_outputs
from saconv_surgeon.comparing.parts_of_model import tree
from saconv_surgeon.comparing.structure_changes import changes_of, layer_pairs
from saconv_surgeon.comparing.weights import compare_weights
from saconv_surgeon.models.loading.in_memory import check_weights, opened
from saconv_surgeon.profiling.profile import profile_together
from saconv_surgeon.records import Diff, Timing
from saconv_surgeon.records.progress import OnStep


def diff_models(
    a: nn.Module,
    b: nn.Module,
    example_inputs: Any,
    *,
    names: tuple[str, str] | None,
    timing: Timing | None,
    on_step: OnStep,
) -> Diff:
    """See :func:`saconv_surgeon.diff`."""
    a, inputs = opened(a, example_inputs)
    b, _ = opened(b, inputs)
    check_weights(a, b)
    found = profile_together((a, b), inputs, names or (type(a).__name__, type(b).__name__), timing, on_step)
    on_step("comparing", 0.0)
    matches = align(tree(a), tree(b))
    return Diff(
        a=found.profiles[0],
        b=found.profiles[1],
        structure=changes_of(matches),
        weights=compare_weights(a, b, matches),
        outputs=compare_outputs(a, b, matches, inputs),
        latency_ratio=found.latency_ratio,
        latency_ratios=found.latency_ratios,
        training_ratio=found.training_ratio,
        layers=layer_pairs(matches, *([row.path for row in p.layers] for p in found.profiles)),
        freedom_a=layer_use(a, inputs),
        freedom_b=layer_use(b, inputs),
    )
