"""What each target costs in time: a training step beside that of its convolution and norm, and the folded layer beside theirs.

    python -m benchmarks.target_speed

On one CPU thread in float32; dense targets 3×3, depthwise ones 3×3 with as many groups as channels. All are called in turn, every
round in another order, in one process; medians are compared.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import saconv_surgeon as surgeon
from benchmarks.layer import Run, Setting, medians
from benchmarks.parts import geometric_mean
from benchmarks.recording import record
from saconv_surgeon.convs.deformable import missing_operator
from tests.oracle_branches import shake

DENSE = ("saconv", "refconv", "repvgg", "acb", "dbb")
DEPTHWISE = ("refconv", "repvgg", "acb", "dbb", "dilated-reparam", "wtconv")
GRID = ((64, 56, 8), (128, 28, 8), (256, 14, 8))
"""Channels, side of the map, batch."""


def main() -> None:
    """Measures everything and records it."""
    torch.set_num_threads(1)
    setting = Setting(torch.device("cpu"), torch.float32)
    rows = [row(kind, *shape, setting) for kind in ("dense", "depthwise") for shape in GRID]
    means = {}
    for kind in ("dense", "depthwise"):
        for what in ("training step", "folded"):
            own = [r for r in rows if r["kind"] == kind]
            means[f"{kind}, {what}"] = {
                name: geometric_mean([r[what][name] / r[what]["convolution"] for r in own])
                for name in own[0][what]
                if name != "convolution"
            }
    for name, ratios in means.items():
        print(f"{name}: " + " · ".join(f"{target} ×{ratio:.2f}" for target, ratio in ratios.items()))
    left_out = missing_operator()
    print(
        f"recorded in {record('target-speed', {'rows': rows, 'means': means, 'dcnv2 left out': left_out}, setting.device)}"
    )


def row(kind: str, channels: int, side: int, batch: int, setting: Setting) -> dict[str, Any]:
    """One shape: medians in seconds."""
    torch.manual_seed(0)
    groups = channels if kind == "depthwise" else 1
    x = setting.place(torch.randn(batch, channels, side, side))
    plain = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )
    plain = setting.place(plain.eval())
    models = {"convolution": plain}
    for target in DEPTHWISE if kind == "depthwise" else DENSE:
        models[target] = surgeon.convert(plain, x[:1], target=target, trials=1).model
    steps: dict[str, Run] = {name: step(model.train(), x) for name, model in models.items()}
    training = dict(zip(steps, medians(list(steps.values()), setting), strict=True))
    folded = {}
    for name, model in models.items():
        moved = model if name == "convolution" else shake(model, 0, 0.1)
        folded[name] = surgeon.fold(moved.eval(), x[:1], fold_norms=True).model

    def called(model: nn.Module) -> Run:
        return lambda: model(x)

    runs: dict[str, Run] = {name: called(model) for name, model in folded.items()}
    with torch.inference_mode():
        inference = dict(zip(runs, medians(list(runs.values()), setting), strict=True))
    for what, seconds in (("training step", training), ("folded", inference)):
        shown = " · ".join(f"{n} ×{s / seconds['convolution']:.2f}" for n, s in seconds.items() if n != "convolution")
        print(f"{kind} {channels} @ {side}², {what}: {shown}", flush=True)
    return {
        "kind": kind,
        "channels": channels,
        "side": side,
        "batch": batch,
        "training step": training,
        "folded": inference,
    }


def step(model: nn.Module, x: torch.Tensor) -> Run:
    """Forward and backward."""

    def run() -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        y: torch.Tensor = model(x)
        y.sum().backward()
        return y

    return run


if __name__ == "__main__":
    main()
