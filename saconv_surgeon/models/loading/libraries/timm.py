"""Models of timm."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.models.loading.libraries.library import Library, Order, channels_of, image, unknown


def _make_timm(timm: ModuleType, order: Order) -> nn.Module:
    plain = order.name.partition(".")[0]
    if "hub:" not in order.name and "dir:" not in order.name and not timm.is_model(plain):
        raise unknown(plain, timm.list_models(), "timm")
    return timm.create_model(order.name, *(order.args or (order.pretrained,)), **order.options)


def _timm_inputs(model: nn.Module, order: Order | None) -> Any:
    config = importlib.import_module("timm.data").resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if isinstance(size, (tuple, list)) and all(isinstance(side, int) for side in size):
        height, width = size
    return image(1, channels_of(model, order, "in_chans", channels), height, width)


TIMM = Library("timm", "timm", _make_timm, _timm_inputs)
