"""What a trained converted model becomes when it is folded for inference."""

from __future__ import annotations

from dataclasses import dataclass

FOLDING_SCHEMA = "saconv-surgeon/folding/1"


@dataclass(frozen=True)
class FoldedLayer:
    """A layer, what it was and what it is now.

    ``parts`` is what a switchable layer still computes, ``()`` for a plain convolution. ``norm`` is the norm that went into the
    layer, as ``path (Type)``; ``norm_stays`` says why one did not. ``removed`` are the parts that a tolerance allowed to take
    out; they moved the output by ``cost`` = |y-y0| / |y0| in the 2-norm. ``reason`` says why the layer was left as it was.
    """

    path: str
    before: str
    after: str
    at_rest: bool = False
    parts: tuple[str, ...] = ()
    norm: str | None = None
    norm_stays: str | None = None
    removed: tuple[str, ...] = ()
    cost: float | None = None
    reason: str | None = None

    @property
    def changed(self) -> bool:
        """Whether the layer was replaced."""
        return self.reason is None

    @property
    def plain(self) -> bool:
        """Whether it was replaced by a plain convolution."""
        return self.changed and self.after == "Conv2d"


@dataclass(frozen=True)
class FoldLedger:
    """Every layer accounted for: ``layers == plain + switchable + others + kept``.

    ``plain`` became convolutions, ``at_rest`` of them the original ones to the bit; ``switchable`` still have two branches or a
    context; ``kept`` were left as they were. ``norms`` went into the layer before them. ``convolutions`` are plain convolutions
    that took in their norm; they do not count as ``layers``.
    """

    layers: int
    plain: int
    at_rest: int
    switchable: int
    others: int
    kept: int
    norms: int
    convolutions: int

    @classmethod
    def of(cls, rows: tuple[FoldedLayer, ...]) -> FoldLedger:
        """The sums over ``rows``."""
        layers = [row for row in rows if row.before != "Conv2d"]
        plain = [row for row in layers if row.plain]
        switchable = sum(row.changed and bool(row.parts) for row in layers)
        kept = sum(not row.changed for row in layers)
        return cls(
            layers=len(layers),
            plain=len(plain),
            at_rest=sum(row.at_rest for row in plain),
            switchable=switchable,
            others=len(layers) - len(plain) - switchable - kept,
            kept=kept,
            norms=sum(row.norm is not None for row in rows),
            convolutions=len(rows) - len(layers),
        )
