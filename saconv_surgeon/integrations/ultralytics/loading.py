"""``model.load(weights)``, which ``YOLO(yaml).load(file)`` and trainers call, with converted layers on either side."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from ultralytics.nn.tasks import BaseModel

from saconv_surgeon.integrations.layers_in_models import RECORD, converted_layers
from saconv_surgeon.integrations.patching import wrap
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import (
    configuration_of,
    lost_layers,
    surgery_of,
)
from saconv_surgeon.integrations.ultralytics.putting_back import load_keeping_layers

REMEDY = (
    "train the converted checkpoint with saconv_surgeon.integrations.ultralytics.YOLO, or with "
    "trainer=SurgicalDetectionTrainer (and its like for other tasks) from there"
)


def stock_load(model: Any, weights: Any, verbose: bool = True) -> None:
    """Ultralytics' own ``model.load(weights)``."""
    load = type(model).load
    getattr(load, "__wrapped__", load)(model, weights, verbose)


def keep_layers_when_loading() -> None:
    """Makes ``load()`` of every Ultralytics model keep converted layers; plain models load plain weights as ever."""
    wrap(BaseModel, "load", _keeping)


def _keeping(stock: Callable[..., Any]) -> Callable[..., Any]:
    def load(self: nn.Module, weights: Any, verbose: bool = True) -> Any:
        given = weights.get("ema") or weights["model"] if isinstance(weights, dict) else weights
        if not isinstance(given, nn.Module) or not (_has_ours(self) or _has_ours(given)):
            return stock(self, weights, verbose)
        if _is_rebuilt(self, given):
            stock(self, weights, verbose)
            warnings.warn(
                f"a stock trainer has rebuilt the model without {len(lost_layers(self))} of its {len(surgery_of(given))} "
                f"converted layers, and trains it so; to keep them, {REMEDY}",
                stacklevel=3,
            )
            return None
        load_keeping_layers(self, given, partial(stock, self, verbose=verbose))
        return None

    return load


def _has_ours(model: nn.Module) -> bool:
    return any(True for _ in converted_layers(model))


def _is_rebuilt(model: nn.Module, weights: nn.Module) -> bool:
    """Whether ``model`` was built from the configuration of ``weights`` itself, by a trainer that puts nothing back."""
    configuration = configuration_of(model)
    return (
        configuration is not None
        and configuration is configuration_of(weights)
        and RECORD in configuration
        and not surgery_of(model)
    )
