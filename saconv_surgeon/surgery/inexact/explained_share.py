"""How much of a model's outputs is kept by a converted model that cannot equal it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.running.difference import Leaf, agreement, compare
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import absorbed_parts, follower, watched
from saconv_surgeon.models.running.run import run
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.records import Explained, LayerFit


@dataclass
class Share:
    """Sums over pairs of tensors, the original's first, from which the explained share follows."""

    sums: Tensor | None = None
    """Per channel: how many, the sum and the sum of squares of the original, the squared difference, (4, C)."""
    product: float = 0.0
    energy: float = 0.0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Adds a pair of equal shapes. The second axis of (N, C, …) are channels; a vector has one."""
        a, b = a.detach().double().cpu(), b.detach().double().cpu()
        rows, others = (t.transpose(0, 1).flatten(1) if t.dim() >= 2 else t.reshape(1, -1) for t in (a, b))
        count = torch.full((len(rows),), float(rows.shape[1]), dtype=torch.float64)
        sums = torch.stack([count, rows.sum(1), rows.square().sum(1), (rows - others).square().sum(1)])
        same = self.sums is not None and self.sums.shape == sums.shape
        self.sums = self.sums + sums if same and self.sums is not None else sums
        self.product += float((a * b).sum())
        self.energy += float(b.square().sum())

    @property
    def spreads(self) -> Tensor:
        """The squared distance of the original from its mean, (C,); 0 if it is only rounding."""
        if self.sums is None:
            return torch.zeros(0)
        n, total, squares, _ = self.sums
        spread = squares - total.square() / n
        return torch.where(spread > 1e-10 * squares, spread, 0.0)

    @property
    def shares(self) -> Tensor:
        """The explained share of each channel that varies."""
        varies = self.spreads > 0
        return 1 - self.sums[3][varies] / self.spreads[varies] if self.sums is not None else torch.zeros(0)

    @property
    def r2(self) -> float | None:
        """1 - missed/spread, over all channels together."""
        spread = float(self.spreads.sum())
        return _finite(1 - float(self.sums[3].sum()) / spread) if self.sums is not None and spread > 0 else None

    @property
    def cosine(self) -> float | None:
        """Of the two as vectors."""
        scale = math.sqrt(float(self.sums[2].sum()) * self.energy) if self.sums is not None else 0.0
        return _finite(self.product / scale) if scale > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def explain(
    original: nn.Module,
    converted: nn.Module,
    batches: Sequence[Inputs],
    paths: Sequence[str],
    *,
    init: str,
    source: str,
    calibrated_on: int | None = None,
    seed: int = 0,
) -> Explained:
    """Runs both models on ``batches`` in eval mode and compares their outputs and those of the layers at ``paths``."""
    in_place: dict[str, Share] = {path: Share() for path in paths}
    alone: dict[str, Share] = {path: Share() for path in paths}
    whole = _Outputs()
    for batch in batches:
        wanted: dict[str, list[Tensor]] = {path: [] for path in paths}

        def of_original(path: str, given: Tensor, output: Tensor, wanted: dict[str, list[Tensor]] = wanted) -> None:
            layer = converted.get_submodule(path)
            absorbed = layer.absorbed if isinstance(layer, ConvertedLayer) else {}
            output = follower(original, absorbed_parts(absorbed))(output)
            wanted[path].append(output.clone())
            alone[path].add(output, layer(given.clone()))

        def of_converted(path: str, given: Tensor, output: Tensor, wanted: dict[str, list[Tensor]] = wanted) -> None:
            if wanted[path] and wanted[path][0].shape == output.shape:
                in_place[path].add(wanted[path].pop(0), output)

        with preserved(converted), watched(original, paths, of_original):
            reference = run(original, batch, seed)
        with watched(converted, paths, of_converted):
            whole.add(reference, run(converted, batch, seed), batch.batch)
    layers = tuple(LayerFit(p, in_place[p].r2, in_place[p].cosine, alone[p].r2) for p in paths)
    return Explained(
        init=init,
        r2=whole.r2,
        cosine=whole.cosine,
        top1=whole.top1,
        samples=sum(batch.batch or 1 for batch in batches),
        source=source,
        layers=layers,
        calibrated_on=calibrated_on,
        problems=whole.problems,
        not_compared=whole.not_compared,
    )


@dataclass
class _Outputs:
    """All floating tensors of two models; ``problems`` is what makes them unusable, ``not_compared`` what has other sizes."""

    shares: dict[str, Share] = field(default_factory=dict)
    agreeing: int = 0
    compared: int = 0
    problems: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()

    def add(self, a: list[Leaf], b: list[Leaf], samples: int | None) -> None:
        """Adds the leaves of two outputs for so many samples."""
        others = dict(b)
        if [name for name, _ in a] != [name for name, _ in b]:
            self._problem(*compare(a, b).problems)
            return
        pairs = [
            (name, left, others[name]) for name, left in a if isinstance(left, Tensor) and left.is_floating_point()
        ]
        for name, left, right in pairs:
            if not isinstance(right, Tensor) or right.shape[1:] != left.shape[1:] or right.dim() != left.dim():
                self._problem(f"{name} has another shape")
            elif not bool(right.isfinite().all()):
                self._problem(f"{name} is not finite any more")
            elif left.shape != right.shape:  # as many boxes as are found
                self.not_compared = tuple(dict.fromkeys((*self.not_compared, name)))
            else:
                self.shares.setdefault(name, Share()).add(left, right)
        agreeing, compared = agreement(a, b, samples)
        self.agreeing += agreeing
        self.compared += compared

    def _problem(self, *found: str) -> None:
        self.problems = tuple(dict.fromkeys((*self.problems, *found)))

    @property
    def r2(self) -> float | None:
        """The mean over all channels, each by its own spread: outputs may be pixels beside probabilities."""
        shares = [share.shares for share in self.shares.values()]
        each = torch.cat(shares) if shares else torch.zeros(0)
        return _finite(float(each.mean())) if len(each) else None

    @property
    def cosine(self) -> float | None:
        """Of all values as one vector."""
        energies = [float(s.sums[2].sum()) for s in self.shares.values() if s.sums is not None]
        scale = math.sqrt(sum(energies) * sum(share.energy for share in self.shares.values()))
        return _finite(sum(share.product for share in self.shares.values()) / scale) if scale > 0 else None

    @property
    def top1(self) -> float | None:
        """How often the largest is at the same index."""
        return self.agreeing / self.compared if self.compared else None
