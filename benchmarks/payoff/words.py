"""What tasks and arms are called on the page."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.payoff.tables import Results
from benchmarks.payoff.tasks import classify, dense, detect


@dataclass(frozen=True)
class TaskWords:
    """``short`` for sentences; ``large``: from how many pixels on a digit is large."""

    heading: str
    short: str
    measure: str
    about: str
    large: int


@dataclass(frozen=True)
class ArmWords:
    """``short`` for pictures, ``long`` for tables."""

    short: str
    long: str


TASK_WORDS = {
    "dense": TaskWords(
        "Dense labelling",
        "dense",
        "mIoU",
        "which digit is at each 4×4 pixels; a residual network with a top-down head",
        dense.SMALL_SIDE,
    ),
    "classify": TaskWords(
        "Classification",
        "classify",
        "accuracy",
        "which is the largest digit; the same network with a pooled head",
        classify.SMALL_SIDE,
    ),
    "detect": TaskWords(
        "Detection",
        "detect",
        "AP50",
        "where is which digit; a small YOLOv8 (strides 8 and 16) with its own loss",
        detect.SMALL_SIDE,
    ),
}
RATE_X3 = ", new parts ×3"
NO_DEFORMABLE = "torchvision's compiled `deform_conv2d` was absent"
NOT_RUN = {
    ("saconv-deform", "dense"): NO_DEFORMABLE,
    ("saconv-deform", "classify"): NO_DEFORMABLE,
    ("saconv-deform", "detect"): NO_DEFORMABLE,
    ("wider", "detect"): "maps are concatenated, so that channels cannot be added at their end",
}
PLANS = ("plan", "promise", "probe")
"""Choices of ``plan``, the one to compare with first."""
ARM_WORDS = {
    "twin": ArmWords("untouched", "untouched, the same steps"),
    "twin-2x": ArmWords("untouched, twice the steps", "untouched, twice the steps (about equal MACs)"),
    "twin-time": ArmWords("untouched, equal time", "untouched, as many steps as the time of SAConv everywhere allows"),
    "wider": ArmWords("wider network", "a wider network with the same function at the start"),
    "dilated": ArmWords("dilated", "every eligible convolution three times dilated"),
    "zero-branch": ArmWords("zero branch", "a dilated branch that starts at zero; no switch, no contexts"),
    "contexts": ArmWords("contexts", "`--parts contexts` everywhere"),
    "branches": ArmWords("branches", "`--parts branches` everywhere"),
    "all": ArmWords("SAConv", "`--to saconv` everywhere"),
    "all-min-stride-8": ArmWords("SAConv, min stride 8", "`--to saconv --min-stride 8`"),
    "saconv-deform": ArmWords("deformable SAConv", "`--to saconv-deform`"),
    "aws": ArmWords("AWS", "`--to aws`"),
    "spconv": ArmWords("SPConv", "`--to spconv --ratio 1/2`, calibrated (does not keep the function)"),
}
CHOICE_WORDS = {
    "plan": "`plan`, its default",
    "plan-probe": "`plan --score probe`",
    "promise": "promise without the prior",
    "probe": "probe without the prior",
    "prior": "the prior alone",
    "split-fisher": "split-half score with the diagonal Fisher matrix",
    "gradient": "squared gradient",
    "probe-spread": "probe by the spread of the switch",
    "contexts-only": "contexts only, the deepest first",
    "random": "random, whole layers",
    "random-parts": "random, layers and parts",
    "depth": "the deepest first, whole layers",
    "stages": "DetectoRS' stages (stride 8 and more), whole layers",
}
RECIPE_WORDS = {
    "adamw-x0.3": "AdamW, new parts ×0.3",
    "adamw-x1": "AdamW",
    "adamw-x3": "AdamW, new parts ×3",
    "adamw-x10": "AdamW, new parts ×10",
    "adamw-x3-decay": "AdamW, new parts ×3, with weight decay",
    "sgd-x1": "SGD",
    "sgd-x3": "SGD, new parts ×3",
    "sgd-x10": "SGD, new parts ×10",
}


def run_tasks(results: Results) -> list[str]:
    """Tasks of which there are results."""
    return [task for task in TASK_WORDS if results.has(task, "adamw-x1", "twin")]
