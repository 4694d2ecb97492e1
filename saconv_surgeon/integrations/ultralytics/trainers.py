"""Trainers that keep converted layers: Ultralytics' own rebuild the model from its configuration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from ultralytics.models import rtdetr, yolo
from ultralytics.utils import DEFAULT_CFG

from saconv_surgeon.integrations.layers_in_models import convert_in_place
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import recorded_in, surgery_of
from saconv_surgeon.integrations.ultralytics.loading import stock_load
from saconv_surgeon.integrations.ultralytics.protected_blocks import protect
from saconv_surgeon.integrations.ultralytics.putting_back import fitting_layers, load_keeping_layers
from saconv_surgeon.integrations.ultralytics.trainer_optimizer import split_new_parts
from saconv_surgeon.models.tree.parameter_kinds import NEW_LR, check_new_lr
from saconv_surgeon.models.tree.wrappers import unwrapped

RATIO = "saconv_surgeon_new_lr"
"""The attribute of a model that is in training, and of its checkpoints, that holds ``new_lr``."""


class SurgicalTrainer:
    """Mixin for trainers: the model that is trained has the converted layers of the model that was given.

    What the conversion added trains at ``new_lr`` times the rate of the rest: an argument of ``train()`` whose default is the
    attribute here. Checkpoints keep it for resuming; a run that began without such a ratio goes on without.

    For a trainer of your own: ``class MyTrainer(SurgicalTrainer, DetectionTrainer)``.
    """

    new_lr: float | None = NEW_LR
    args: Any

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        # kept out of ``args``: validators and exporters, which get a copy, refuse what Ultralytics does not know
        given = dict(overrides or {})
        self.new_lr = given.pop("new_lr", self.new_lr)
        check_new_lr(self.new_lr)
        super().__init__(cfg, given, _callbacks)  # type: ignore[call-arg]
        if self.args.resume and "new_lr" in (overrides or {}):
            warnings.warn("resuming ignores new_lr: the run goes on with its own", stacklevel=2)

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """A model for this data set with the converted layers and all fitting weights of ``weights``.

        The converted layers are those that ``weights`` holds or, if it holds none or is not given, those that ``cfg``
        names. A layer that has another shape here (its width follows the number of classes) is converted again.
        """
        if getattr(self.args, "resume", False):
            self.new_lr = getattr(weights, RATIO, None)
        model = self._model_with_layers(super().get_model, cfg, weights, verbose)  # type: ignore[misc]
        setattr(model, RATIO, self.new_lr)
        return model

    def _model_with_layers(
        self, build: Callable[..., nn.Module], cfg: Any, weights: nn.Module | None, verbose: bool
    ) -> nn.Module:
        surgery = surgery_of(weights) or recorded_in(cfg)
        if not surgery:
            return build(cfg=cfg, weights=weights, verbose=verbose)
        model = build(cfg=cfg, weights=None, verbose=verbose)
        if weights is not None:
            load_keeping_layers(model, weights, partial(stock_load, model))
        convert_in_place(model, fitting_layers(model, surgery))
        protect(model)
        return model

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Ultralytics' optimiser, with groups of their own for what the conversion added, after Ultralytics' groups."""
        optimizer: torch.optim.Optimizer = super().build_optimizer(model, *args, **kwargs)  # type: ignore[misc]
        inner = unwrapped(model)
        new_lr = vars(inner).get(RATIO, self.new_lr)  # a worker, one of several processes, is given the model alone
        if new_lr is not None:
            split_new_parts(optimizer, inner, new_lr)
        return optimizer


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
