"""timm models keep their converted layers in folders and repositories of timm's own form.

::

    from saconv_surgeon.integrations import timm as surgical_timm

    surgical_timm.save_for_hf(conversion.model, "converted")  # config.json names the converted layers
    model = timm.create_model("local-dir:converted", pretrained=True)  # or hf-hub:you/converted

Without the import, timm's ``create_model`` refuses such weights, since their names are not those of its model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import timm
from timm.models import _builder, _factory
from timm.models import save_for_hf as stock_save_for_hf
from timm.models._hub import download_from_hf
from torch import nn

from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.integrations.layers_in_models import RECORD, Surgery, convert_in_place, read_layers, written_layers
from saconv_surgeon.integrations.patching import wrap

SOURCES = ("local-dir:", "hf-hub:", "hf_hub:")
_building = RLock()


def save_for_hf(model: nn.Module, folder: str | Path, **options: Any) -> None:
    """timm's ``save_for_hf``, with the converted layers of ``model`` named in ``config.json``. ``options`` are timm's.

    Raises:
        UsageError: A layer was folded, and cannot be built again.
    """
    settings = {**(options.pop("model_config", None) or {}), RECORD: written_layers(model)}
    stock_save_for_hf(model, str(folder), model_config=settings, **options)


def _with_layers(stock: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def create_model(model_name: str, pretrained: bool = False, *args: Any, **options: Any) -> nn.Module:
        layers = _recorded(model_name, options.get("cache_dir"))
        if not layers:
            return stock(model_name, pretrained, *args, **options)
        checkpoint = options.pop("checkpoint_path", "")
        with _building, _converting(layers):
            model = stock(model_name, pretrained, *args, **options)
        if not pretrained:
            convert_in_place(model, layers)
        guard(model)
        if checkpoint:
            timm.models.load_checkpoint(model, checkpoint)
        return model

    return create_model


def _recorded(name: str, cache: str | Path | None) -> Surgery:
    source = next((prefix for prefix in SOURCES if name.startswith(prefix)), None)
    if source is None:
        return {}
    place = name.removeprefix(source)
    file = (
        Path(place) / "config.json" if source == "local-dir:" else Path(download_from_hf(place, "config.json", cache))
    )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # timm says what is wrong with it
    return read_layers(content.get(RECORD) or {}) if isinstance(content, dict) else {}


@contextmanager
def _converting(layers: Surgery) -> Iterator[None]:
    """Models that timm builds meanwhile get the layers before it loads their weights."""
    stock = _builder.load_pretrained

    def load(model: nn.Module, *args: Any, **kwargs: Any) -> None:
        convert_in_place(model, layers)
        stock(model, *args, **kwargs)

    _builder.load_pretrained = load
    try:
        yield
    finally:
        _builder.load_pretrained = stock


for _owner in (timm, timm.models, _factory):
    wrap(_owner, "create_model", _with_layers)
