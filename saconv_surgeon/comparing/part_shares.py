"""What each part of a converted layer adds to its output, for layers that say so by ``contributions``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.records import Freedom, Use


def says_its_parts(layer: object) -> bool:
    """Whether a layer's class says what its parts add."""
    return isinstance(layer, ConvertedLayer) and type(layer).contributions is not ConvertedLayer.contributions


@dataclass
class PartSums:
    """Sums of squares over all outputs of a layer: of each part, of their sum, and of all but the convolution."""

    parts: dict[str, float] = field(default_factory=dict)
    whole: float = 0.0
    added: float = 0.0
    calls: int = 0

    def add(self, layer: ConvertedLayer, given: Tensor) -> None:
        """Runs the parts of ``layer`` once more."""
        found = list(layer.contributions(given.unsqueeze(0) if given.dim() == 3 else given).items())
        if not found:
            return
        first = found[0][1].double()
        rest = sum((part.double() for _, part in found[1:]), first.new_zeros(()))
        self.calls += first.numel() > 0
        self.whole += energy(first + rest)
        self.added += energy((rest + 0 * first).expand_as(first)) if found[1:] else 0.0
        for name, part in found:
            self.parts[name] = self.parts.get(name, 0.0) + energy(part.expand_as(first))

    def record(self, path: str, layer: ConvertedLayer, hardly: float) -> Freedom:
        """Shares are roots of shares of squares: they need not add up to one."""
        recipe, ran = Recipe.of(layer), self.calls > 0
        moved = share(self.added, self.whole) if ran else None
        return Freedom(
            path=path,
            type=type(layer).__name__,
            moved=moved,
            use=use_of(layer, ran=ran, moved=moved, hardly=hardly),
            parts={name: share(part, self.whole) for name, part in self.parts.items()},
            target=recipe.target,
            options=recipe.options,
        )


def use_of(layer: ConvertedLayer, *, ran: bool, moved: float | None, hardly: float) -> Use:
    """In a word, whether a layer uses what surgery gave it."""
    if layer.is_at_rest():
        return "at rest"
    if not ran:
        return "never ran"
    if moved is None:
        return "not finite"
    return "hardly used" if moved < hardly else "used"


def energy(t: Tensor) -> float:
    """The sum of the squares, in float64."""
    return float(t.detach().double().square().sum())


def share(part: float, whole: float) -> float | None:
    """The root of a share of squares; 0 of nothing is 0, None if it is not finite."""
    if part == 0:
        return 0.0
    return finite(math.sqrt(part / whole)) if whole > 0 and math.isfinite(part) and math.isfinite(whole) else None


def finite(value: float | None) -> float | None:
    """``value``, or None if it is not finite."""
    return value if value is not None and math.isfinite(value) else None
