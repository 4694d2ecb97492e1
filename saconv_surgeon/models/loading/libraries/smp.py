"""Models of segmentation-models-pytorch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.models.loading.libraries.library import FALLBACK_SIZE, Library, Order, channels_of, image, unknown


def _make_smp(smp: ModuleType, order: Order) -> nn.Module:
    arch = order.name.lower()
    known = [
        name for name in dir(smp) if isinstance(getattr(smp, name), type) and issubclass(getattr(smp, name), nn.Module)
    ]
    if arch not in map(str.lower, known):
        raise unknown(order.name, known, "smp")
    weights = {"encoder_weights": "imagenet" if order.pretrained else None}
    return smp.create_model(arch, *order.args, **{**weights, **order.options})


def _smp_inputs(model: nn.Module, order: Order | None) -> Any:
    return image(1, channels_of(model, order, "in_channels", 3), FALLBACK_SIZE, FALLBACK_SIZE)


SMP = Library("segmentation_models_pytorch", "smp", _make_smp, _smp_inputs)
