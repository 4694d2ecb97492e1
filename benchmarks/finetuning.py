"""Does a converted model train? Loss curves of an original, its conversions and their randomly initialised twins.

    python -m benchmarks.finetuning [SEEDS]

A small ResNet learns to tell six figures, whose radius is 12 to 42 % of the image's side. Then it is trained on, as it is and
converted: to SAConv, and to SPConv (α = 1/2) by calibration and by projection. A twin is the converted architecture with random
weights; it gets the same steps. Some minutes on two cores. Prints a table and records all curves; with matplotlib installed it
draws ``docs/finetuning.svg``.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import saconv_surgeon as surgeon
from benchmarks.images import FIGURES, figures
from benchmarks.recording import record
from sample_models.tiny_resnet import TinyResNet

SIDE, BATCH = 64, 64
TRAINED_ON, TESTED_ON = 3072, 1024
EPOCHS_BEFORE, EPOCHS_AFTER = 10, 6
RATE_BEFORE, RATE_AFTER = 0.05, 0.02
PICTURE = Path(__file__).parent.parent / "docs" / "finetuning.svg"
Curve = dict[str, list[float]]


def new_model(seed: int) -> TinyResNet:
    """A ResNet with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyResNet(depth=1, num_classes=len(FIGURES))


def batches(data: tuple[Tensor, Tensor], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass in another order for each seed."""
    order = torch.randperm(len(data[0]), generator=torch.Generator().manual_seed(seed))
    for chosen in order.split(BATCH):
        yield data[0][chosen], data[1][chosen]


def train(model: nn.Module, data: Any, test: Any, epochs: int, rate: float, seed: int) -> Curve:
    """SGD with a cosine schedule; loss and accuracy on the test images before and after each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * -(-len(data[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    curve: Curve = {"train": [], "loss": [], "accuracy": []}
    _append(curve, model, test)
    for epoch in range(epochs):
        model.train()
        losses = []
        for x, y in batches(data, 1000 * seed + epoch):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        curve["train"].append(statistics.mean(losses))
        _append(curve, model, test)
    return curve


@torch.no_grad()
def _append(curve: Curve, model: nn.Module, test: tuple[Tensor, Tensor]) -> None:
    logits = torch.cat([model.eval()(x) for x in test[0].split(256)])
    curve["loss"].append(float(F.cross_entropy(logits, test[1])))
    curve["accuracy"].append(float((logits.argmax(1) == test[1]).double().mean()))


def variants(original: nn.Module, seed: int, data: Any) -> dict[str, Callable[[], nn.Module]]:
    """What is trained on, by name."""
    x = data[0][:2]
    calibration = data[0][: 8 * BATCH].split(BATCH)

    def spconv(model: nn.Module, **start: Any) -> nn.Module:
        options = {"ratio": "1/2"}
        return surgeon.convert(model, x, target="spconv", options=options, trials=1, **start).model

    return {
        "original": lambda: copy.deepcopy(original),
        "saconv, converted": lambda: surgeon.convert(original, x, trials=1).model,
        "saconv, random twin": lambda: surgeon.convert(new_model(seed + 100), x, trials=1).model,
        "spconv, calibrated": lambda: spconv(original, data=calibration),
        "spconv, projected": lambda: spconv(original, init="project"),
        "spconv, random twin": lambda: spconv(new_model(seed + 100), init="random"),
    }


def run(seed: int) -> dict[str, Curve]:
    """The curves of one seed."""
    data, test = figures(TRAINED_ON, SIDE, 10 * seed), figures(TESTED_ON, SIDE, 10 * seed + 1)
    original, curves = new_model(seed), {}
    curves["before"] = train(original, data, test, EPOCHS_BEFORE, RATE_BEFORE, seed)
    for name, build in variants(original.eval(), seed, data).items():
        start = time.perf_counter()
        curves[name] = train(build(), data, test, EPOCHS_AFTER, RATE_AFTER, seed)
        losses = "  ".join(f"{loss:.3f}" for loss in curves[name]["loss"])
        accuracy = curves[name]["accuracy"]
        print(
            f"seed {seed}  {name:20}  test loss {losses}   accuracy {100 * accuracy[0]:.1f} → {100 * accuracy[-1]:.1f} %  "
            f"({time.perf_counter() - start:.0f} s)",
            flush=True,
        )
    return curves


def table(runs: list[dict[str, Curve]]) -> str:
    """Means over the seeds, with the range of the last."""
    lines = [
        "| trained on | loss at the start | after 1 epoch | after all | accuracy at the start | after all |",
        "|---|---|---|---|---|---|",
    ]
    for name in runs[0]:
        if name == "before":
            continue
        loss, accuracy = ([[r[name][key][i] for r in runs] for i in (0, 1, -1)] for key in ("loss", "accuracy"))
        last = f"{statistics.mean(loss[2]):.3f} ({min(loss[2]):.3f}–{max(loss[2]):.3f})"
        lines.append(
            f"| {name} | {statistics.mean(loss[0]):.3f} | {statistics.mean(loss[1]):.3f} | {last} | "
            f"{100 * statistics.mean(accuracy[0]):.1f} % | {100 * statistics.mean(accuracy[2]):.1f} % |"
        )
    return "\n".join(lines)


def draw(runs: list[dict[str, Curve]]) -> None:
    """Test loss by epoch: every seed thin, their mean thick."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "finetuning"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    colours = {"original": "0.45", "converted": "C0", "calibrated": "C0", "projected": "C2", "random twin": "C3"}
    for axis, kind in zip(axes, ("saconv", "spconv"), strict=True):
        for name in runs[0]:
            if name != "original" and not name.startswith(kind):
                continue
            label = name.removeprefix(f"{kind}, ")
            curves = [r[name]["loss"] for r in runs]
            for curve in curves:
                axis.plot(curve, color=colours[label], alpha=0.3, linewidth=0.8)
            axis.plot(
                [statistics.mean(at) for at in zip(*curves, strict=True)],
                color=colours[label],
                linewidth=2,
                label=label,
            )
        axis.set(title=kind, xlabel="epochs of training after the conversion", yscale="log")
        axis.legend(frameon=False)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("loss on test images")
    figure.savefig(PICTURE, metadata={"Date": None})
    print(PICTURE)


def main(seeds: int = 3) -> None:
    """Runs everything, prints a table and records it."""
    runs = [run(seed) for seed in range(seeds)]
    print(table(runs))
    print(record("finetuning", {"epochs": [EPOCHS_BEFORE, EPOCHS_AFTER], "images": TRAINED_ON, "runs": runs}))
    try:
        draw(runs)
    except ImportError:
        print("no picture: matplotlib is not installed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
