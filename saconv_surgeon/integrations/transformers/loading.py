"""``from_pretrained`` of converted models: modules are replaced before weights are loaded, as those of quantised models are.

transformers offers two ways to do that: a mapping of classes, which knows nothing of the single model, and a quantiser, which is
given the skeleton of the model and its configuration. Sharded files, ``device_map``, ``dtype`` and ``AutoModel`` work with it as
with any model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.errors import ArtefactError
from saconv_surgeon.integrations.hugging_face_record import METHOD, recorded_layers
from saconv_surgeon.integrations.layers_in_models import convert_in_place, converted_layers, convolution_at

BEFORE_5 = transformers.__version__.partition(".")[0] == "4"
HALF = (torch.float16, torch.bfloat16)


class SurgeryConfig(QuantizationConfigMixin):
    """What ``config.json`` names as the quantisation of a converted model. The layers stand beside it."""

    def __init__(self, quant_method: str = METHOD, **other: Any) -> None:
        self.quant_method = quant_method  # type: ignore[assignment]
        for name, value in other.items():
            setattr(self, name, value)


class SurgeryLoader(HfQuantizer):
    """Puts the converted layers that a configuration names into the skeleton of the model, and nothing else.

    Nothing is quantised, and the model does not count as quantised: it can be trained, cast and compiled as any other.
    """

    requires_calibration = False

    dtype: torch.dtype | None = None
    whole_dtype: torch.dtype | None = None

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """As it is. transformers 4 would cast all weights to it while it loads them: there they are loaded in float32, and the
        whole model is cast in the end."""
        if BEFORE_5 and dtype in HALF:
            self.whole_dtype = dtype
            return torch.float32
        return dtype

    def preprocess_model(
        self,
        model: PreTrainedModel,
        *args: Any,
        dtype: torch.dtype | None = None,
        device_map: object = None,
        **kwargs: Any,
    ) -> None:
        """In place, before the weights are loaded. Where they are wanted in half precision, the layers get them in float32 first:
        what standardisation computes is then cast as it is when a model is cast.

        Raises:
            ArtefactError: The model has no convolution at one of the places.
        """
        put_layers_in(model, recorded_layers(model.config))
        is_offloaded = isinstance(device_map, Mapping) and "disk" in device_map.values()
        if dtype in HALF and not is_offloaded:
            self.dtype = dtype
            for _, layer in converted_layers(model):
                layer.float()

    def postprocess_model(self, model: PreTrainedModel, *args: Any, **kwargs: Any) -> PreTrainedModel:
        """The weights are there: the model is as any other from now on."""
        for _, layer in converted_layers(model):
            layer.to(self.dtype)
            _load_whole(layer)
        if self.whole_dtype is not None:
            nn.Module.to(
                model, self.whole_dtype
            )  # accelerate's own refuses models with parts elsewhere, since they may move
            model.config.dtype = self.whole_dtype
        guard(model)
        with suppress(AttributeError):
            del model.hf_quantizer
        model.config.quantization_config = {"quant_method": METHOD}
        return model

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> None:
        """Abstract in transformers 4; :meth:`preprocess_model` has done it."""

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> None:
        """Abstract in transformers 4; :meth:`postprocess_model` does it."""

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """``save_pretrained`` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """As any model."""
        return True


def _load_whole(layer: nn.Module) -> None:
    """A layer reads parts that it does not call: if accelerate brings tensors from the disk, these have to come with the layer's
    own."""
    hook: Any = getattr(layer, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        if hasattr(each, "place_submodules"):
            each.place_submodules = True


def put_layers_in(model: PreTrainedModel, layers: dict[str, Recipe]) -> None:
    """Converts the convolutions that ``layers`` names, in place.

    ``model`` may also be the part without a head of what was saved, or have one where that had none: paths differ by a prefix.

    Raises:
        ArtefactError: There is no convolution at one of the places.
    """
    prefix = f"{model.base_model_prefix}."
    named = {_place_in(model, path, prefix): recipe for path, recipe in layers.items()}
    absent = [path for path in named if convolution_at(model, path) is None]
    if absent:
        raise ArtefactError(
            f"{type(model).__name__} has no convolution at {absent[0]!r}, which config.json names as converted "
            f"({len(absent)} of {len(named)} are missing); load it as the class that was saved"
        )
    convert_in_place(model, {path: _moved(recipe, model, prefix) for path, recipe in named.items()})


def _place_in(model: nn.Module, path: str, prefix: str) -> str:
    candidates = (path, path.removeprefix(prefix), f"{prefix}{path}")
    return next((place for place in candidates if convolution_at(model, place) is not None), path)


def _moved(recipe: Recipe, model: nn.Module, prefix: str) -> Recipe:
    """``recipe`` with the places of what it absorbs as they are in ``model``."""
    names = {name for name, _ in model.named_modules()}
    absorbed = {
        name: next((p for p in (path, path.removeprefix(prefix), f"{prefix}{path}") if p in names), path)
        for name, path in recipe.absorbed.items()
    }
    return Recipe(recipe.layer, recipe.target, recipe.options, absorbed)


def register() -> None:
    """Makes transformers know converted models; once."""
    if METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantizer(METHOD)(SurgeryLoader)
        register_quantization_config(METHOD)(SurgeryConfig)
