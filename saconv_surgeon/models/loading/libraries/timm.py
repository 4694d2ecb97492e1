"""Models of timm."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.models.loading.libraries.example_inputs import channels_of, image
from saconv_surgeon.models.loading.libraries.library import Library, ModelRequest, unknown


def _make_timm(timm: ModuleType, request: ModelRequest) -> nn.Module:
    plain = request.name.partition(".")[0]
    if "hub:" not in request.name and "dir:" not in request.name and not timm.is_model(plain):
        raise unknown(plain, timm.list_models(), "timm")
    return timm.create_model(request.name, *(request.args or (request.pretrained,)), **request.options)


def _timm_inputs(model: nn.Module, request: ModelRequest | None) -> Any:
    config = importlib.import_module("timm.data").resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if isinstance(size, (tuple, list)) and all(isinstance(side, int) for side in size):
        height, width = size
    return image(1, channels_of(model, request, "in_chans", channels), height, width)


TIMM = Library("timm", "timm", _make_timm, _timm_inputs)
