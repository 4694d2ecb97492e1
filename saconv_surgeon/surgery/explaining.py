"""How much of a model's outputs a converted model gives that cannot equal it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saconv_surgeon.models.comparison import Leaf, compare
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.state import preserved
from saconv_surgeon.records import Explained, LayerFit
from saconv_surgeon.surgery.equivalence import run
from saconv_surgeon.surgery.watching import watched


@dataclass
class Share:
    """Sums over pairs of tensors, the original's first, from which the explained share follows."""

    squares: Tensor | None = None
    """Per channel: how many, the sum and the sum of squares of the original, (3, C)."""
    missed: float = 0.0
    product: float = 0.0
    energy: float = 0.0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Adds a pair of equal shapes. The second axis of (N, C, …) are channels; a vector has one."""
        a, b = a.detach().double().cpu(), b.detach().double().cpu()
        rows = a.transpose(0, 1).flatten(1) if a.dim() >= 2 else a.reshape(1, -1)
        sums = torch.stack([torch.full((len(rows),), float(rows.shape[1])), rows.sum(1), rows.square().sum(1)])
        same = self.squares is not None and self.squares.shape == sums.shape
        self.squares = self.squares + sums if same and self.squares is not None else sums
        self.missed += float((a - b).square().sum())
        self.product += float((a * b).sum())
        self.energy += float(b.square().sum())

    @property
    def spread(self) -> float:
        """The squared distance of the original from its channels' means."""
        if self.squares is None:
            return 0.0
        n, total, squares = self.squares
        return float((squares - total.square() / n).clamp(min=0).sum())

    @property
    def r2(self) -> float | None:
        """1 - missed/spread."""
        return _finite(1 - self.missed / self.spread) if self.spread > 0 else None

    @property
    def cosine(self) -> float | None:
        """Of the two as vectors."""
        scale = math.sqrt(float(self.squares[2].sum()) * self.energy) if self.squares is not None else 0.0
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
            wanted[path].append(output.clone())
            alone[path].add(output, converted.get_submodule(path)(given.clone()))

        def of_converted(path: str, given: Tensor, output: Tensor, wanted: dict[str, list[Tensor]] = wanted) -> None:
            if wanted[path] and wanted[path][0].shape == output.shape:
                in_place[path].add(wanted[path].pop(0), output)

        with preserved(converted), watched(original, paths, of_original):
            reference = run(original, batch, seed)
        with watched(converted, paths, of_converted):
            whole.add(reference, run(converted, batch, seed))
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
    )


@dataclass
class _Outputs:
    """All floating tensors that two models return; ``problems`` is what makes them incomparable."""

    shares: dict[str, Share] = field(default_factory=dict)
    agreeing: int = 0
    compared: int = 0
    problems: tuple[str, ...] = ()

    def add(self, a: list[Leaf], b: list[Leaf]) -> None:
        others = dict(b)
        if [name for name, _ in a] != [name for name, _ in b]:
            self.problems = tuple(dict.fromkeys((*self.problems, *compare(a, b).problems)))
            return
        ranked = False
        for name, left in a:
            right = others[name]
            if not isinstance(left, Tensor) or not left.is_floating_point():
                continue
            if not isinstance(right, Tensor) or left.shape != right.shape or not bool(right.isfinite().all()):
                wrong = (
                    "is not finite any more"
                    if isinstance(right, Tensor) and left.shape == right.shape
                    else "has another shape"
                )
                self.problems = tuple(dict.fromkeys((*self.problems, f"{name} {wrong}")))
                continue
            self.shares.setdefault(name, Share()).add(left, right)
            if not ranked and left.dim() >= 2 and left.shape[1] > 1:
                ranked = True
                same = left.argmax(1) == right.argmax(1)
                self.agreeing += int(same.sum())
                self.compared += same.numel()

    @property
    def r2(self) -> float | None:
        spread = sum(share.spread for share in self.shares.values())
        return _finite(1 - sum(share.missed for share in self.shares.values()) / spread) if spread > 0 else None

    @property
    def cosine(self) -> float | None:
        energies = [float(s.squares[2].sum()) for s in self.shares.values() if s.squares is not None]
        scale = math.sqrt(sum(energies) * sum(share.energy for share in self.shares.values()))
        return _finite(sum(share.product for share in self.shares.values()) / scale) if scale > 0 else None

    @property
    def top1(self) -> float | None:
        return self.agreeing / self.compared if self.compared else None
