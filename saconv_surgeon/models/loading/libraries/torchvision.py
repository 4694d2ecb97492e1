"""Models of torchvision: classifiers, detectors, segmenters, optical flow, video."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.models.loading.libraries.example_inputs import FALLBACK_SIZE, image
from saconv_surgeon.models.loading.libraries.library import Library, ModelRequest, unknown

SEGMENTATION_SIZE = 520
VIDEO_FRAMES = 16
FLOW_SIZE = 128
"""The smallest image that RAFT takes; its published weights were trained on other sizes, so it has none of its own."""


def _make_torchvision(torchvision: ModuleType, request: ModelRequest) -> nn.Module:
    models = importlib.import_module("torchvision.models")
    if request.name.lower() not in models.list_models():
        raise unknown(request.name, models.list_models(), "torchvision")
    weights = {"weights": "DEFAULT"} if request.pretrained else {"weights": None, "weights_backbone": None}
    builder = models.get_model_builder(request.name)
    if "weights_backbone" not in inspect.signature(builder).parameters:
        weights.pop("weights_backbone", None)
    quiet = {"init_weights": True} if request.name in ("googlenet", "inception_v3") and not request.pretrained else {}
    return builder(*request.args, **{**weights, **quiet, **request.options})


def _torchvision_inputs(model: nn.Module, request: ModelRequest | None) -> Any:
    family = type(model).__module__.removeprefix("torchvision.models.").partition(".")[0]
    if family == "detection":
        return ([image(3, *_detection_size(model))],)
    if family == "optical_flow":
        return (image(1, 3, FLOW_SIZE, FLOW_SIZE), image(1, 3, FLOW_SIZE, FLOW_SIZE))
    height, width = _published_size(request) or (
        (SEGMENTATION_SIZE,) * 2 if family == "segmentation" else (FALLBACK_SIZE,) * 2
    )
    if any(isinstance(m, nn.Conv3d) for m in model.modules()):
        return image(1, 3, VIDEO_FRAMES, height, width)
    return image(1, 3, height, width)


def _detection_size(model: nn.Module) -> tuple[int, int]:
    transform: Any = model.transform
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return height, width
    return transform.min_size[-1], transform.min_size[-1]


def _published_size(request: ModelRequest | None) -> tuple[int, int] | None:
    """(H, W) that the published weights of a model were made for."""
    if request is None:
        return None
    weights = importlib.import_module("torchvision.models").get_model_weights(request.name)
    crop = getattr(weights.DEFAULT.transforms(), "crop_size", None)
    return (crop[0], crop[-1]) if crop else None


TORCHVISION = Library("torchvision", "torchvision", _make_torchvision, _torchvision_inputs)
