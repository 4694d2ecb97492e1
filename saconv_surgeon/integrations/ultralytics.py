"""Ultralytics: converted models that survive ``fuse()`` and training.

Two habits of that library destroy a converted model without a word:

* ``fuse()``, which ``val``, ``predict`` and ``export`` call, folds the norm of every ``Conv`` block into ``conv.weight``, which
  a converted layer standardises before use. :func:`protect` gives the blocks around converted layers classes that ``fuse()``
  passes by. The classes travel with a pickled model, so a checkpoint stays protected wherever it is loaded.
  ``surgeon.apply`` and everything built on it protect by themselves.
* ``train()`` builds the model anew from its configuration, with plain convolutions. The trainers here put the converted
  layers back and load every weight.

::

    from saconv_surgeon.integrations.ultralytics import YOLO

    YOLO("converted.pt").train(data="coco8.yaml", epochs=3)

or, with the stock class, ``ultralytics.YOLO("converted.pt").train(trainer=SurgicalDetectionTrainer, data=…)``. Ultralytics
offers no place to notice a stock trainer (``YOLO.train()`` of its own, ``yolo train`` in a shell) before it drops the
converted layers; :class:`SurgicalYOLO` warns when it is given a checkpoint to which that has happened.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import ultralytics
from torch import nn
from ultralytics.models import rtdetr, yolo
from ultralytics.nn.modules.block import RepVGGDW
from ultralytics.nn.modules.conv import Conv, Conv2, RepConv

from saconv_surgeon.convs.aws import ConvAWS2d
from saconv_surgeon.convs.block import SAConvBlock
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.recipe import Recipe
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.absorption import absorb
from saconv_surgeon.models.copying import paths_of

RECORD = "saconv_surgeon"
"""The entry of a model's configuration (``model.yaml``) that names its converted layers: trainers are always given the
configuration, but no weights with ``pretrained=False``."""

Surgery = Mapping[str, Recipe]
"""The converted layers of a model: their paths, and how each is made."""

# ------------------------------------------------------------------ blocks that fuse() passes by


class SurgicalBlock(nn.Module):
    """A block around a converted layer, which ``fuse()`` and ``is_fused()`` do not take for one of theirs.

    Attributes and state-dict keys are those of the block whose place it takes; ``plain_class`` is that block's class.
    """

    plain_class: type[nn.Module]


class SurgicalConv(SurgicalBlock):
    """``Conv`` or ``DWConv`` with a converted convolution: convolution, norm, activation."""

    forward = Conv.forward


class SurgicalConv2(SurgicalBlock):
    """``Conv2`` of which a branch is converted: the sum of a k×k and a 1×1 convolution, norm, activation."""

    forward = Conv2.forward


class SurgicalRepConv(SurgicalBlock):
    """``RepConv`` of which a branch is converted, so that its branches cannot be merged."""

    forward = RepConv.forward


class SurgicalRepVGGDW(SurgicalBlock):
    """``RepVGGDW`` of which a branch is converted, so that its branches cannot be merged."""

    forward = RepVGGDW.forward


PROTECTING: Mapping[Callable[..., Any], type[SurgicalBlock]] = {
    Conv.forward: SurgicalConv,
    Conv2.forward: SurgicalConv2,
    RepConv.forward: SurgicalRepConv,
    RepVGGDW.forward: SurgicalRepVGGDW,
}
"""By what a block computes: ``DWConv`` and other subclasses that only differ in their constructor are found with it."""


def protect(model: nn.Module) -> None:
    """Makes ``fuse()`` pass by the blocks of ``model`` that hold a converted layer, or whose norm was folded, in place.

    Nothing else changes: no attribute, state-dict key or output. The other blocks are fused as ever. Blocks that are fused
    already are left alone: they have no norm that could be folded. Doing it twice changes nothing the second time.
    """
    for block in model.modules():
        if _would_be_fused(block) and any(map(_is_not_for_fusing, block.modules())):
            _protect_block(block)
    _record(model)


def unprotect(model: nn.Module) -> None:
    """Undoes :func:`protect` in place, for a model whose own convolutions are put back."""
    for block in model.modules():
        if isinstance(block, SurgicalBlock):
            block.__class__ = vars(block).pop("plain_class")
    configuration = _configuration(model)
    if configuration is not None:
        configuration.pop(RECORD, None)


def surgery_of(model: object) -> dict[str, Recipe]:
    """The converted layers of a model by path; none for anything that is no module.

    Blocks that a configuration itself names are no surgery: they are built with the model.
    """
    if not isinstance(model, nn.Module):
        return {}
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, ConvertedLayer)]
    return {path: Recipe.of(layer) for path, layer in layers if not isinstance(layer, SAConvBlock)}


def _is_not_for_fusing(part: nn.Module) -> bool:
    return isinstance(part, ConvertedLayer) or isinstance(getattr(part, "bn", None), nn.Identity)


def _would_be_fused(block: nn.Module) -> bool:
    if isinstance(block, Conv):
        return hasattr(block, "bn")
    return isinstance(block, (RepConv, RepVGGDW)) and hasattr(block, "conv1")


def _protect_block(block: nn.Module) -> None:
    protecting = PROTECTING.get(type(block).forward)
    if protecting is None:
        warnings.warn(
            f"{type(block).__name__} has a forward of its own and cannot be protected: fuse(), which val, predict and export "
            "call, will corrupt its converted convolution. Leave it out of the conversion, or don't derive it from "
            "an Ultralytics block",
            stacklevel=3,
        )
        return
    plain = type(block)
    block.__class__ = protecting
    vars(block)["plain_class"] = plain


def _configuration(model: object) -> dict[str, Any] | None:
    found = getattr(model, "yaml", None)
    return found if isinstance(found, dict) else None


def _record(model: nn.Module) -> None:
    """Writes the converted layers into the model's configuration, if it has one."""
    configuration = _configuration(model)
    if configuration is None:
        return
    configuration.pop(RECORD, None)
    surgery = {path: recipe.written() for path, recipe in surgery_of(model).items() if recipe.target is not None}
    if surgery:
        configuration[RECORD] = surgery


def _recorded(configuration: object) -> dict[str, Recipe]:
    """The converted layers that a configuration names."""
    recorded = configuration.get(RECORD, {}) if isinstance(configuration, dict) else {}
    return {path: Recipe.read(written) for path, written in recorded.items()}


# ------------------------------------------------------------------ trainers that keep the surgery


class SurgicalTrainer:
    """Mixin for trainers: the model that is trained has the converted layers of the model that was given.

    For a trainer of your own: ``class MyTrainer(SurgicalTrainer, DetectionTrainer)``.
    """

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        """A model for this data set with the converted layers and all fitting weights of ``weights``.

        The converted layers are those that ``weights`` holds or, where it holds none or is not given, those that ``cfg``
        names. A layer that has another shape here (its width follows the number of classes) is converted anew.
        """
        build: Callable[..., nn.Module] = super().get_model  # type: ignore[misc]
        surgery = surgery_of(weights) or _recorded(cfg)
        if not surgery:
            return build(cfg=cfg, weights=weights, verbose=verbose)
        model = build(cfg=cfg, weights=None, verbose=verbose)
        fitting = _fitting(model, surgery)
        converted = bool(surgery_of(weights))
        if weights is not None and not converted:
            model.load(weights)  # type: ignore[operator]
        _operate(model, fitting)
        if weights is not None and converted:
            _load(model, weights)
            _operate(model, fitting)  # loading can replace branches of the head by copies of the weights' own
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


def _fitting(model: nn.Module, surgery: Surgery) -> Surgery:
    """The part of ``surgery`` for which ``model`` has a plain convolution; warns of the rest."""
    fitting = {path: layer for path, layer in surgery.items() if _plain_convolution(model, path) is not None}
    absent = [path for path in surgery if path not in fitting]
    if absent:
        warnings.warn(
            f"{len(absent)} converted layers (first: {absent[0]}) have no plain convolution at their place in the model that "
            "is trained, and are not taken over; is it another architecture?",
            stacklevel=3,
        )
    return fitting


def _operate(model: nn.Module, surgery: Surgery) -> None:
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
    """Makes a layer compute what its kernel says: parts of another layer that happened to fit mean nothing to it."""
    layer._reset_new_parameters()
    layer.load_state_dict({"weight": layer.weight}, strict=False)


# ------------------------------------------------------------------ the user's entry


class _SurgicalModel:
    """Mixin for Ultralytics' model classes: trains with the trainers above."""

    model: Any
    ckpt: Any

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Model, trainer, validator and predictor of every task."""
        stock: dict[str, dict[str, Any]] = super().task_map  # type: ignore[misc]
        return {
            task: {**entry, "trainer": TRAINERS.get(entry["trainer"], entry["trainer"])}
            for task, entry in stock.items()
        }

    def train(self, trainer: Any = None, **kwargs: Any) -> Any:
        """Trains as Ultralytics' ``train`` does, and keeps converted layers.

        A model that was converted in memory (``yolo.model = …``) is trained as it is.

        Raises:
            UsageError: ``trainer`` would drop the converted layers.
        """
        # Given explicitly: without a trainer, several data sets are trained by stock trainers in other processes.
        trainer = trainer or self._smart_load("trainer")  # type: ignore[attr-defined]
        if surgery_of(self.model):
            if isinstance(trainer, type) and not issubclass(trainer, SurgicalTrainer):
                raise UsageError(
                    f"{trainer.__name__} builds a model without the converted layers; give a trainer that derives from "
                    f"SurgicalTrainer, as in class My{trainer.__name__}(SurgicalTrainer, {trainer.__name__})"
                )
            # Without a checkpoint Ultralytics builds a new model from its file and never looks at the one in memory.
            self.ckpt = self.ckpt or {"model": self.model}
        return super().train(trainer=trainer, **kwargs)  # type: ignore[misc]

    def tune(self, use_ray: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Tunes as Ultralytics' ``tune`` does; converted models with ``use_ray=True`` only.

        Raises:
            UsageError: A converted model without Ray: that way of tuning starts ``yolo train`` in other processes, whose
                trainers would drop the converted layers.
        """
        if surgery_of(self.model) and not use_ray:
            raise UsageError(
                "tune() trains in other processes, with trainers that drop the converted layers; tune with use_ray=True"
            )
        return super().tune(use_ray, *args, **kwargs)  # type: ignore[misc]


class SurgicalRTDETR(_SurgicalModel, ultralytics.RTDETR):
    """``ultralytics.RTDETR`` that keeps converted layers when it trains."""


class SurgicalYOLO(_SurgicalModel, ultralytics.YOLO):
    """``ultralytics.YOLO`` that keeps converted layers when it trains. Takes the same arguments.

    As with the stock class, the file decides what it becomes: RT-DETR models a :class:`SurgicalRTDETR`. YOLO-World and YOLOE
    models become the stock classes, which do not keep converted layers when they train.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The stock constructor changes the object's class where the file holds another kind of model.
        if type(self) is ultralytics.RTDETR:
            self.__class__ = SurgicalRTDETR
        _warn_of_losses(self)


YOLO = SurgicalYOLO


def _warn_of_losses(yolo: Any) -> None:
    """Says that converted layers will be, or have been, dropped by a stock trainer."""
    surgery = surgery_of(yolo.model)
    if surgery and not isinstance(yolo, _SurgicalModel):
        warnings.warn(f"train() of {type(yolo).__name__} will drop the converted layers", stacklevel=3)
    recorded = _recorded(_configuration(yolo.model))
    lost = recorded.keys() - surgery.keys()
    if lost and not yolo.model.is_fused():  # fusing renames the head of some models
        warnings.warn(
            f"{len(lost)} of the {len(recorded)} converted layers of this model are gone: a stock trainer has built it anew "
            "without them. Train the converted checkpoint with saconv_surgeon.integrations.ultralytics.YOLO",
            stacklevel=3,
        )
        _record(yolo.model)
