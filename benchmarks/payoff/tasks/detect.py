"""Detection with a small YOLO that is built and trained on the spot; needs Ultralytics."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.payoff.average_precision import Found, iou, mean_average_precision
from benchmarks.payoff.material import CLASSES
from benchmarks.payoff.pictures import Kind, Pictures
from benchmarks.payoff.tasks.task import Measured, Task

SMALL_SIDE = 24
"""A digit whose longer side has fewer pixels is small."""
FEWEST, MOST_FOUND, OVERLAP = 0.01, 30, 0.6
"""Of what the model finds: the lowest confidence, how many in one picture, and above which IoU the less confident is left out."""
CONFIGURATION = {
    "nc": len(CLASSES),
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [24, 3, 2]],
        [-1, 1, "C2f", [24, True]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C2f", [32, True]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "C2f", [64, True]],
        [-1, 1, "SPPF", [64, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "C2f", [32]],
        [-1, 1, "Conv", [32, 3, 2]],
        [[-1, 7], 1, "Concat", [1]],
        [-1, 1, "C2f", [64]],
        [[10, 13], 1, "Detect", ["nc"]],
    ],
}
"""YOLOv8, scaled down, without its coarsest level: maps at strides 8 and 16."""
KIND = Kind(80, 8, 64, 4)


@dataclass(frozen=True)
class Detect(Task):
    """Mean average precision at an IoU of 0.5."""

    name: str = "detect"
    measure: str = "AP50"
    kind: Kind = KIND
    trained_on: int = 5000
    tested_on: int = 1000
    batch: int = 16
    base_steps: int = 1200
    base_rate: float = 3e-3
    steps: int = 300
    rates: dict[str, float] = field(default_factory=lambda: {"adamw": 3e-3, "sgd": 1e-2}, hash=False)

    def new_model(self) -> nn.Module:
        """A YOLO with the settings that its loss asks for."""
        from ultralytics.cfg import get_cfg
        from ultralytics.nn.tasks import DetectionModel

        model = DetectionModel(dict(CONFIGURATION), ch=3, verbose=False)
        model.args = get_cfg()
        return model

    def output_loss(self, output: Any, batch: Pictures) -> Tensor:
        """Ultralytics' own loss for one picture: boxes, classes and the distances of sides."""
        side = self.kind.side
        held = batch.classes >= 0
        boxes = batch.boxes[held] / side
        targets = {
            "batch_idx": held.nonzero()[:, 0].float(),
            "cls": batch.classes[held].float()[:, None],
            "bboxes": torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1),
        }
        parts, _ = _criterion()(output[1] if isinstance(output, tuple) else output, targets)
        return parts.sum() / len(batch)

    def evaluate(self, model: nn.Module, test: Pictures) -> Measured:
        """AP50; for one size, with digits of the other neither asked for nor counted as wrong."""
        found: list[Found] = []
        model.eval()
        with torch.no_grad():
            for part in test.split(100):
                output = model(part.inputs())
                found += [chosen(each) for each in (output[0] if isinstance(output, tuple) else output).float()]
        true = [(test.boxes[i][held], test.classes[i][held].long()) for i, held in enumerate(test.classes >= 0)]
        sides = [(boxes[:, 2:] - boxes[:, :2]).amax(1) for boxes, _ in true]

        def measured(asked: list[Tensor]) -> float:
            return mean_average_precision(found, true, len(CLASSES), asked=asked)

        return Measured(
            measured([torch.ones_like(s, dtype=torch.bool) for s in sides]),
            {
                "small": measured([s < SMALL_SIDE for s in sides]),
                "large": measured([s >= SMALL_SIDE for s in sides]),
            },
        )


@cache
def _criterion() -> Any:
    """It reads strides and sizes of a model, which all arms share."""
    from ultralytics.utils.loss import v8DetectionLoss

    with torch.random.fork_rng():
        return v8DetectionLoss(Detect().new_model())


def chosen(output: Tensor) -> Found:
    """Boxes that are left of (4 + classes, anchors), as x, y, width, height and confidences: the most confident of each place."""
    confidence, label = output[4:].max(0)
    order = confidence.argsort(descending=True)[: 5 * MOST_FOUND]
    order = order[confidence[order] > FEWEST]
    centre, size = output[:2, order].T, output[2:4, order].T
    boxes = torch.cat([centre - size / 2, centre + size / 2], 1)
    confidence, label = confidence[order], label[order]
    kept: list[int] = []
    alike = iou(boxes, boxes) > OVERLAP
    for i in range(len(order)):
        if len(kept) < MOST_FOUND and not bool((alike[i, kept] & (label[kept] == label[i])).any()):
            kept.append(i)
    return boxes[kept], confidence[kept], label[kept]
