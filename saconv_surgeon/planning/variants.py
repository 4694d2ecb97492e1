"""Models converted by a choice of candidates, as if training had moved them, and what they fold to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.folding.fold import fold_reached
from saconv_surgeon.folding.fold_layers import FoldedTree
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.tree.parameter_kinds import new_parameters
from saconv_surgeon.planning.candidates import Offered, with_choices
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.surgery.rewriting import apply

MOVED_BY = 1e-3
"""How far parameters are moved: no part is 0 any more, and outputs stay what they are like."""


@dataclass(frozen=True)
class Variants:
    """Makes converted models of one original, which is left as it was."""

    model: nn.Module
    inputs: Inputs
    offered: Offered
    seed: int = 0

    def converted(self, choices: Mapping[str, Candidate]) -> nn.Module:
        """A copy converted by ``choices``, with moved parameters: a layer at rest would fold to its plain convolution."""
        converted = apply(self.model, with_choices(self.offered.plan, choices))
        move(converted, self.seed)
        return converted

    def folded(self, choices: Mapping[str, Candidate]) -> nn.Module:
        """The folded form of :meth:`converted`."""
        return self.folding(self.converted(choices)).model

    def folding(self, converted: nn.Module) -> FoldedTree:
        """What ``converted`` folds to, and what became of each layer."""
        return fold_reached(converted, self.inputs, fold_norms=False, seed=self.seed)

    def choices(self, names: Mapping[str, str]) -> dict[str, Candidate]:
        """Candidates by their names."""
        own = {path: {c.name: c for c in candidates} for path, candidates in self.offered.candidates.items()}
        return {path: own[path][name] for path, name in names.items()}


def move(model: nn.Module, seed: int = 0) -> None:
    """Moves what surgery added by small random amounts, in place; of layers that are still at rest, the kernel too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in new_parameters(model):
            parameter.add_(_noise(parameter, generator), alpha=MOVED_BY)
        for layer in model.modules():
            if isinstance(layer, ConvertedLayer) and layer.is_at_rest():
                weight = layer.weight
                assert isinstance(weight, Tensor)
                weight.mul_(1 + MOVED_BY * _noise(weight, generator))


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like.device, like.dtype)
