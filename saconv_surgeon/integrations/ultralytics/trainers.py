"""Trainers that keep converted layers: Ultralytics' own rebuild the model from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from ultralytics.models import rtdetr, yolo

from saconv_surgeon.integrations.ultralytics.layers_in_configuration import recorded_in, surgery_of
from saconv_surgeon.integrations.ultralytics.loading import stock_load
from saconv_surgeon.integrations.ultralytics.protected_blocks import protect
from saconv_surgeon.integrations.ultralytics.putting_back import convert_in_place, fitting_layers, load_keeping_layers


class SurgicalTrainer:
    """Mixin for trainers: the model that is trained has the converted layers of the model that was given.

    For a trainer of your own: ``class MyTrainer(SurgicalTrainer, DetectionTrainer)``.
    """

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """A model for this data set with the converted layers and all fitting weights of ``weights``.

        The converted layers are those that ``weights`` holds or, if it holds none or is not given, those that ``cfg``
        names. A layer that has another shape here (its width follows the number of classes) is converted again.
        """
        build: Callable[..., nn.Module] = super().get_model  # type: ignore[misc]
        surgery = surgery_of(weights) or recorded_in(cfg)
        if not surgery:
            return build(cfg=cfg, weights=weights, verbose=verbose)
        model = build(cfg=cfg, weights=None, verbose=verbose)
        if weights is not None:
            load_keeping_layers(model, weights, partial(stock_load, model))
        convert_in_place(model, fitting_layers(model, surgery))
        protect(model)
        return model


class SurgicalDetectionTrainer(SurgicalTrainer, yolo.detect.DetectionTrainer):
    """``DetectionTrainer`` that keeps converted layers."""


class SurgicalSegmentationTrainer(SurgicalTrainer, yolo.segment.SegmentationTrainer):
    """``SegmentationTrainer`` that keeps converted layers."""


class SurgicalPoseTrainer(SurgicalTrainer, yolo.pose.PoseTrainer):
    """``PoseTrainer`` that keeps converted layers."""


class SurgicalOBBTrainer(SurgicalTrainer, yolo.obb.OBBTrainer):
    """``OBBTrainer`` that keeps converted layers."""


class SurgicalClassificationTrainer(SurgicalTrainer, yolo.classify.ClassificationTrainer):
    """``ClassificationTrainer`` that keeps converted layers."""


class SurgicalRTDETRTrainer(SurgicalTrainer, rtdetr.train.RTDETRTrainer):
    """``RTDETRTrainer`` that keeps converted layers."""


TRAINERS: dict[type, type[SurgicalTrainer]] = {
    trainer.__bases__[1]: trainer
    for trainer in (
        SurgicalDetectionTrainer,
        SurgicalSegmentationTrainer,
        SurgicalPoseTrainer,
        SurgicalOBBTrainer,
        SurgicalClassificationTrainer,
        SurgicalRTDETRTrainer,
    )
}
"""What takes the place of each stock trainer."""

if hasattr(yolo, "semantic"):  # tasks that older versions do not have

    class SurgicalSemanticSegmentationTrainer(SurgicalTrainer, yolo.semantic.SemanticSegmentationTrainer):
        """``SemanticSegmentationTrainer`` that keeps converted layers."""

    TRAINERS[yolo.semantic.SemanticSegmentationTrainer] = SurgicalSemanticSegmentationTrainer

if hasattr(yolo, "depth"):

    class SurgicalDepthTrainer(SurgicalTrainer, yolo.depth.DepthTrainer):
        """``DepthTrainer`` that keeps converted layers."""

    TRAINERS[yolo.depth.DepthTrainer] = SurgicalDepthTrainer


__all__ = ["TRAINERS", "SurgicalTrainer", *(trainer.__name__ for trainer in TRAINERS.values())]
