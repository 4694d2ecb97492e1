"""SPConv in a ResNet-50 beside the figures that its authors print: the sixteen 3×3 convolutions of the bottlenecks replaced.

    python -m benchmarks.resnet50

The ResNet-50 is that of transformers, whose strides are where torchvision's are (in the 3×3 convolution); 224×224, one image.
Published: Zhang et al., arXiv 2006.12085, table 3, and the authors' repository.
"""

from __future__ import annotations

import torch
from torch import nn

import saconv_surgeon as surgeon

PUBLISHED = {None: ("4.14", "25.56"), "1/2": ("2.97", "18.34"), "1/4": ("2.74", "16.93"), "1/8": ("2.62", "16.22")}
"""G FLOPs and M parameters, as printed."""
LARGEST_MISS = 0.015
"""How far FLOPs may be from the printed ones, which come from a counter that is not named."""


def resnet50() -> nn.Module:
    """With random weights."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()


def row(model: nn.Module, ratio: str | None) -> dict[str, int]:
    """Parameters, multiply–accumulates and fvcore's figure, and how many convolutions were replaced."""
    x, count = torch.zeros(1, 3, 224, 224), 0
    if ratio is not None:
        paths = [path for path, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        options = {"ratio": ratio}
        conversion = surgeon.convert(model, x, target="spconv", options=options, init="random", include=paths, trials=1)
        model, count = conversion.model, conversion.converted
    found = surgeon.profile(model, x, timing=None)
    assert found.macs is not None
    assert found.fvcore_flops is not None
    return {"parameters": found.parameters, "macs": found.macs, "fvcore": found.fvcore_flops, "converted": count}


def main() -> None:
    """Prints the table."""
    model = resnet50()
    print(
        "| α | replaced | parameters | published | fvcore | published | off by | MACs |\n|---|---|---|---|---|---|---|---|"
    )
    for ratio, (flops, parameters) in PUBLISHED.items():
        found = row(model, ratio)
        off = found["fvcore"] / (float(flops) * 1e9) - 1
        counted = f"{found['fvcore'] / 1e9:.3f} G | {flops} G | {100 * off:+.1f} % | {found['macs'] / 1e9:.3f} G"
        print(f"| {ratio or 'plain'} | {found['converted']} | {found['parameters']:,} | {parameters} M | {counted} |")


if __name__ == "__main__":
    main()
