"""Models of segmentation-models-pytorch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.models.loading.libraries.example_inputs import FALLBACK_SIZE, channels_of, image
from saconv_surgeon.models.loading.libraries.library import Library, ModelRequest, unknown


def _make_smp(smp: ModuleType, request: ModelRequest) -> nn.Module:
    arch = request.name.lower()
    known = [
        name for name in dir(smp) if isinstance(getattr(smp, name), type) and issubclass(getattr(smp, name), nn.Module)
    ]
    if arch not in map(str.lower, known):
        raise unknown(request.name, known, "smp")
    weights = {"encoder_weights": "imagenet" if request.pretrained else None}
    return smp.create_model(arch, *request.args, **{**weights, **request.options})


def _smp_inputs(model: nn.Module, request: ModelRequest | None) -> Any:
    return image(1, channels_of(model, request, "in_channels", 3), FALLBACK_SIZE, FALLBACK_SIZE)


SMP = Library("segmentation_models_pytorch", "smp", _make_smp, _smp_inputs)
