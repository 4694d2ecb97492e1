"""Trainers that keep converted layers: Ultralytics' own rebuild the model from its configuration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn
from ultralytics.models import rtdetr, yolo

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import Surgery, recorded_in, surgery_of
from saconv_surgeon.integrations.ultralytics.protected_blocks import protect
from saconv_surgeon.models.tree.absorbed_modules import absorb
from saconv_surgeon.models.tree.paths import paths_of


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
        fitting = _fitting(model, surgery)
        converted = bool(surgery_of(weights))
        if weights is not None and not converted:
            model.load(weights)  # type: ignore[operator]
        _convert(model, fitting)
        if weights is not None and converted:
            _load(model, weights)
            _convert(model, fitting)  # loading can replace branches of the head by copies of the weights' own
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


def _fitting(model: nn.Module, surgery: Surgery) -> Surgery:
    """The converted layers for which ``model`` has a plain convolution; warns about the rest."""
    fitting = {path: layer for path, layer in surgery.items() if _plain_convolution(model, path) is not None}
    absent = [path for path in surgery if path not in fitting]
    if absent:
        warnings.warn(
            f"{len(absent)} converted layers (first: {absent[0]}) have no plain convolution at their place in the model that "
            "is trained, and are not taken over; is it another architecture?",
            stacklevel=3,
        )
    return fitting


def _convert(model: nn.Module, surgery: Surgery) -> None:
    """Converts the plain convolutions at the given paths, in place."""
    paths = paths_of(model)
    for path, recipe in surgery.items():
        conv = _plain_convolution(model, path)
        if conv is not None:
            layer = recipe.make(conv)
            layer.path = path
            for name in paths[id(conv)]:
                model.set_submodule(name, layer)
            absorb(model, layer, recipe.absorbed)


def _plain_convolution(model: nn.Module, path: str) -> nn.Conv2d | None:
    try:
        found = model.get_submodule(path)
    except AttributeError:
        return None
    return found if type(found) is nn.Conv2d else None


def _load(model: nn.Module, weights: nn.Module) -> None:
    """Loads as Ultralytics does: what fits by name and shape, and class scores by class name."""
    sources = dict(weights.named_modules())
    others = {
        layer: {name: value.clone() for name, value in layer.state_dict().items()}
        for path, layer in model.named_modules()
        if isinstance(layer, ConvertedLayer)
        and not isinstance(layer, ConvAWS2d)
        and not _fits(layer, sources.get(path))
    }
    model.load(weights)  # type: ignore[operator]
    for layer, fresh in others.items():
        layer.load_state_dict(fresh)
    for path, layer in model.named_modules():
        source = sources.get(path)
        if isinstance(layer, ConvAWS2d) and isinstance(source, nn.Conv2d) and source.weight.shape != layer.weight.shape:
            _reset(layer)


def _fits(layer: nn.Module, source: nn.Module | None) -> bool:
    """Whether all of ``layer`` is loaded from ``source``."""
    found = {} if source is None else source.state_dict()
    return all(name in found and found[name].shape == value.shape for name, value in layer.state_dict().items())


def _reset(layer: ConvAWS2d) -> None:
    """Makes a layer compute what its kernel says: parts of another layer that happened to fit do not belong to it."""
    layer._reset_new_parameters()
    layer.load_state_dict({"weight": layer.weight}, strict=False)
