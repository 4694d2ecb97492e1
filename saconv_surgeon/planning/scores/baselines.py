"""Orders of layers that look neither at the data nor at the gradients: what a score has to beat."""

from __future__ import annotations

import random as generators
from collections.abc import Mapping, Sequence

from saconv_surgeon.planning.scores.gains import SumOfGains
from saconv_surgeon.records import Plan, PlannedSite
from saconv_surgeon.records.budgeted_plan import Candidate

Candidates = Mapping[str, Sequence[Candidate]]
STAGES_STRIDE = 8
"""DetectoRS converts the stages of its backbone whose outputs are at strides 8, 16 and 32."""
WHOLE_LAYERS_ONLY = "this baseline chooses whole layers, as was done before there were parts"


def depth(plan: Plan, candidates: Candidates) -> SumOfGains:
    """Later layers first: the gain of a layer is its place in the order of the first calls, 1, 2, 3 …; whole layers only."""
    paths = [site.path for site in plan.sites if site.path in candidates]
    return _whole(
        candidates, {path: float(i) for i, path in enumerate(paths, 1)}, "depth", "place in the order of calls"
    )


def random(plan: Plan, candidates: Candidates, *, seed: int = 0, parts: bool = False) -> SumOfGains:
    """Uniform random numbers in (0, 1], the same for the same ``seed``, whatever the order of the candidates.

    Whole layers only; with ``parts`` every candidate has its own number.
    """

    def draw(*what: str) -> float:
        return 1.0 - generators.Random(f"{seed}/{'/'.join(what)}").random()

    if not parts:
        return _whole(candidates, {path: draw(path) for path in candidates}, "random", "random number")
    return SumOfGains(
        "random",
        "random number",
        {path: {each.name: draw(path, each.name) for each in offered} for path, offered in candidates.items()},
    )


def stages(plan: Plan, candidates: Candidates) -> SumOfGains:
    """1 for layers whose output is at stride 8 or more, as DetectoRS chose them, 0 for the others; whole layers only.

    The stride is measured from the largest input of a convolution.
    """
    image = max((s.input[-2:] for site in plan.sites for s in site.shapes), key=lambda m: m[0] * m[1], default=(1, 1))
    sites = {site.path: site for site in plan.sites}

    def gain(path: str) -> float:
        return float(path in sites and _stride(sites[path], image) >= STAGES_STRIDE)

    return _whole(candidates, {path: gain(path) for path in candidates}, "stages", "1 at stride 8 and more")


def _stride(site: PlannedSite, image: Sequence[int]) -> int:
    maps = [shape.output[-2:] for shape in site.shapes]
    return min((round(a / max(b, 1)) for size in maps for a, b in zip(image, size, strict=True)), default=0)


def _whole(candidates: Candidates, gains: Mapping[str, float], name: str, unit: str) -> SumOfGains:
    """``gains`` for the candidates that are whole layers; if a layer has none of these, for its last candidate."""
    known: dict[str, dict[str, float]] = {}
    reasons: dict[str, dict[str, str]] = {}
    for path, offered in candidates.items():
        whole = [c.name for c in offered if is_whole(c)]
        known[path] = {each: gains.get(path, 0.0) for each in whole}
        reasons[path] = {c.name: WHOLE_LAYERS_ONLY for c in offered if c.name not in whole}
    return SumOfGains(name, unit, known, reasons)  # type: ignore[arg-type]


def is_whole(candidate: Candidate) -> bool:
    """Whether a candidate is a whole layer, not one with parts left out."""
    return candidate.options.get("parts", "all") == "all"
