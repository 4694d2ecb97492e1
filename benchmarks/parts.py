"""Folded layers with some parts alone beside their convolution: what each costs in inference.

    python -m benchmarks.parts

On one CPU thread in float32. All are called in turn, every round in another order, in one process; medians are compared.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.layer import Run, Setting, medians
from benchmarks.recording import record
from saconv_surgeon import SAConv2d
from saconv_surgeon.convs.saconv_parts import Parts
from tests import oracle

GRID = ((64, 56, 1), (64, 56, 8), (128, 28, 1), (128, 28, 8), (256, 14, 8), (512, 7, 8))
"""Channels, side of the map, batch."""
PARTS: tuple[Parts, ...] = ("contexts", "branches", "all")
GOAL = 1.12
"""Of the contexts, the geometric mean over the grid on one CPU thread."""


def main() -> None:
    """Measures everything and records it."""
    torch.set_num_threads(1)
    setting = Setting(torch.device("cpu"), torch.float32)
    rows = [row(*shape, setting) for shape in GRID]
    means = {
        parts: geometric_mean([r["seconds"][parts] / r["seconds"]["convolution"] for r in rows]) for parts in PARTS
    }
    print("folded / its convolution: " + " · ".join(f"{parts} ×{mean:.3f}" for parts, mean in means.items()))
    met = means["contexts"] <= GOAL
    print(f"goal of the contexts ≤ {GOAL}: {'met' if met else 'MISSED'}")
    result = {"rows": rows, "folded / its convolution": means, "goal of the contexts": GOAL, "met": met}
    print(f"recorded in {record('parts', result, setting.device)}")


def row(channels: int, side: int, batch: int, setting: Setting) -> dict[str, Any]:
    """One shape: medians in seconds, all called in turn in one process."""
    torch.manual_seed(0)
    x = setting.place(torch.randn(batch, channels, side, side))
    layers = [SAConv2d(channels, channels, 3, padding=1, bias=False, parts=parts) for parts in PARTS]
    folded = [setting.place(oracle.shake(layer)).eval().folded() for layer in layers]
    kernel = folded[0].conv.weight

    def called(layer: nn.Module) -> Run:
        return lambda: layer(x)

    runs: dict[str, Run] = {"convolution": lambda: F.conv2d(x, kernel, None, 1, 1)}
    runs |= {parts: called(layer) for parts, layer in zip(PARTS, folded, strict=True)}
    with torch.inference_mode():
        seconds = dict(zip(runs, medians(list(runs.values()), setting), strict=True))
    shown = " · ".join(f"{name} ×{seconds[name] / seconds['convolution']:.3f}" for name in PARTS)
    print(
        f"{channels} @ {side}², batch {batch}: convolution {1e3 * seconds['convolution']:.3g} ms · {shown}", flush=True
    )
    return {"channels": channels, "side": side, "batch": batch, "seconds": seconds}


def geometric_mean(ratios: list[float]) -> float:
    """Of some ratios."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


if __name__ == "__main__":
    main()
