"""How much of a model's outputs is left where SPConv layers begin at random, by projection and by calibration.

    python -m benchmarks.starts

Every sample model, with the weights that it is built with, on images made on the spot: 6 batches of 8 to calibrate, 2 others to
look at. R² is over the outputs and over single layers in their place (the median of them); below 0 is worse than always giving
the mean. Prints a table and records the figures.
"""

from __future__ import annotations

import importlib
import statistics
from typing import Any

import torch
from torch import Tensor

import saconv_surgeon as surgeon
from benchmarks.images import figures
from benchmarks.recording import record
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import Explained

SAMPLES = ("tiny_resnet", "tiny_unet", "tiny_segmenter", "tiny_attention", "tiny_yolo", "awkward")
"""All that have a convolution that SPConv can replace: tiny_mobilenet's are pointwise, depthwise, or see three channels."""
RATIOS = ("1/2", "1/4")
INITS = ("random", "project", "calibrate")
BATCHES, BATCH = 8, 8


def images_like(example: Inputs, seed: int) -> Inputs:
    """A batch of other images in the form of ``example``; what is no image is repeated for every one."""

    def other(t: Tensor) -> Tensor:
        if t.dim() == 4 and t.shape[1] in (1, 3):
            size = max(t.shape[-2:])
            return figures(BATCH, size, seed)[0][:, : t.shape[1], : t.shape[-2], : t.shape[-1]]
        return t[:1].expand(BATCH, *t.shape[1:]) if t.dim() and t.shape[0] == example.batch else t

    return example.mapped(other)


def measure(name: str, ratio: str, init: Any) -> Explained | None:
    """What is left of one sample; None where nothing of it can be replaced."""
    module = importlib.import_module(f"sample_models.{name}")
    example = Inputs.of(module.example_inputs())
    data = [images_like(example, seed) for seed in range(BATCHES)]
    if init != "calibrate":
        data = data[-BATCHES // 4 :]  # those that calibration looks at
    torch.manual_seed(0)
    options = {"ratio": ratio}
    conversion = surgeon.convert(
        module.build(), example, target="spconv", options=options, init=init, data=data, trials=1
    )
    return conversion.explained if conversion.converted else None


def main() -> None:
    """Runs everything, prints a table and records it."""
    rows = []
    print(
        f"| model | α | layers | outputs: {' | '.join(INITS)} | layers: {' | '.join(INITS)} |\n|{'---|' * (3 + 2 * len(INITS))}"
    )
    for name in SAMPLES:
        for ratio in RATIOS:
            outputs, layers = [], []
            for init in INITS:
                found = measure(name, ratio, init)
                assert found is not None
                assert found.r2 is not None
                assert not found.problems
                outputs.append(found.r2)
                layers.append(statistics.median(layer.r2 for layer in found.layers if layer.r2 is not None))
                rows.append(
                    {"model": name, "ratio": ratio, "init": init, "layers": len(found.layers)}
                    | {"r2": found.r2, "cosine": found.cosine, "top1": found.top1, "median_layer_r2": layers[-1]}
                )
            shares = " | ".join(f"{share:.3f}" for share in (*outputs, *layers))
            print(f"| {name} | {ratio} | {len(found.layers)} | {shares} |", flush=True)
            if outputs != sorted(outputs):
                print(f"  {name} at {ratio}: the order is not random < project < calibrate")
    print(record("starts", {"batches": BATCHES, "batch": BATCH, "rows": rows}))


if __name__ == "__main__":
    main()
