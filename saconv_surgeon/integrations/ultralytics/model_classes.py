"""Ultralytics' model classes that train with the trainers that keep converted layers."""

from __future__ import annotations

import warnings
from typing import Any

import ultralytics

from saconv_surgeon.errors import UsageError
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import lost_layers, record_surgery, surgery_of
from saconv_surgeon.integrations.ultralytics.trainers import TRAINERS, SurgicalTrainer


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

        A model that was converted in memory (``yolo.model = …``) is trained as it is. ``new_lr=`` is the learning rate of
        what the conversion added, relative to that of the rest; 3 by default.

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
            UsageError: A converted model without Ray: that way of tuning runs ``yolo train`` in other processes, whose
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
        # The stock constructor changes the object's class if the file holds another kind of model.
        if type(self) is ultralytics.RTDETR:
            self.__class__ = SurgicalRTDETR
        _warn_of_losses(self)


YOLO = SurgicalYOLO


def _warn_of_losses(yolo: Any) -> None:
    """Says that converted layers will be dropped by a stock trainer; forgets those that have been."""
    if surgery_of(yolo.model) and not isinstance(yolo, _SurgicalModel):
        warnings.warn(f"train() of {type(yolo).__name__} will drop the converted layers", stacklevel=3)
    if lost_layers(
        yolo.model
    ):  # said when the file was read; what is trained from here on are the layers that are left
        record_surgery(yolo.model)
