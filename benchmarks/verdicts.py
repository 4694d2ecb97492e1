"""How often the verdict on two latencies is right: models compared with themselves, and with twins made 5 % slower on purpose.

    python -m benchmarks.verdicts [RUNS] [cpu|cuda]

A model is a chain of 20 equal blocks; its slower twin has 21 of them, so that it does exactly 5 % more of the very same work.
Each run builds both anew, since where their weights lie in memory makes a difference of its own. Prints each run, then how many
said ``same`` of the equal pairs and ``slower`` of the others, with the goals: 98 % and 95 %.
"""

from __future__ import annotations

import sys
from collections import Counter

import torch
from torch import nn

from benchmarks.recording import record
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.timing.time_models import time_models
from saconv_surgeon.records import LatencyRatio, Timing

BLOCKS = 20
SIZES = {"cpu": ((16, 32), (32, 56), (128, 28)), "cuda": ((32, 56), (256, 56), (512, 56))}
"""Channels and side of the map: on two cores about 3, 8 and 23 ms a pass, on a GPU from launch-bound to arithmetic-bound."""
BATCH = {"cpu": 1, "cuda": 16}
GOALS = {"equal": ("same", 0.98), "5 % slower": ("slower", 0.95)}


def chain(blocks: int, channels: int) -> nn.Module:
    """So many times the same work."""
    parts = [
        nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        for _ in range(blocks)
    ]
    return nn.Sequential(*parts).eval()


def compare(extra: int, channels: int, side: int, device: torch.device) -> LatencyRatio:
    """The ratio of a chain with ``extra`` blocks more to one without, as ``diff`` measures it with its default settings."""
    pair = (chain(BLOCKS, channels).to(device), chain(BLOCKS + extra, channels).to(device))
    inputs = Inputs.of(torch.randn(BATCH[device.type], channels, side, side, device=device))
    return time_models(pair, inputs, device, Timing()).ratios[0]


def main(runs: int = 100, where: str = "cpu") -> None:
    """Runs everything and records it."""
    verdicts: dict[str, Counter[str]] = {kind: Counter() for kind in GOALS}
    rows, device = [], torch.device(where)
    for i in range(runs):
        channels, side = SIZES[where][i % len(SIZES[where])]
        for kind, extra in (("equal", 0), ("5 % slower", 1)):
            found = compare(extra, channels, side, device)
            verdicts[kind][found.verdict] += 1
            rows.append({"pair": kind, "channels": channels, "side": side, **vars(found)})
            print(
                f"{i + 1:3} {kind:10} {channels:4} @ {side}²  ×{found.median:.4f}  {found.low:.4f}–{found.high:.4f}  "
                f"floor {100 * found.noise_floor:4.1f} %  n = {found.n:4}  {found.verdict}",
                flush=True,
            )
    summary = {}
    for kind, (wanted, goal) in GOALS.items():
        share = verdicts[kind][wanted] / runs
        summary[kind] = {"verdicts": dict(verdicts[kind]), "wanted": wanted, "share": share, "goal": goal}
        print(f"{kind}: {verdicts[kind][wanted]} of {runs} {wanted} (goal {goal:.0%}); {dict(verdicts[kind])}")
    print(record("verdicts", {"runs": runs, "summary": summary, "rows": rows}, device))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:3])
