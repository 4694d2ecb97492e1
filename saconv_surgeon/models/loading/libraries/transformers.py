"""Vision models of transformers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.libraries.checked_settings import check_settings
from saconv_surgeon.models.loading.libraries.example_inputs import DETECTION_SIZE, FALLBACK_SIZE, image
from saconv_surgeon.models.loading.libraries.library import Library, ModelRequest, unknown

HEADS = (
    *(
        "ImageClassification",
        "ObjectDetection",
        "UniversalSegmentation",
        "InstanceSegmentation",
        "SemanticSegmentation",
    ),
    *("DepthEstimation", "ImageToImage", "VideoClassification"),
)


def _make_transformers(transformers: ModuleType, request: ModelRequest) -> nn.Module:
    if Path(request.name).is_dir() or "/" in request.name:
        return _transformers_published(transformers, request)
    found: Any = getattr(transformers, request.name, None)
    if _is_model(transformers, found):
        config: Any = getattr(found, "config_class", None)
        return found(config(*request.args, **request.options))
    mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    kind = request.name if request.name in mapping else request.name.replace("_", "-")
    if kind not in mapping:
        raise unknown(request.name, [*mapping, *(n for n in dir(transformers) if "For" in n)], "transformers")
    if request.pretrained:
        raise ModelError(
            f"transformers:{request.name} names an architecture; pretrained weights have names such as org/model"
        )
    return _model_class(transformers, mapping[kind])(mapping[kind](*request.args, **request.options))


def _transformers_published(transformers: ModuleType, request: ModelRequest) -> nn.Module:
    """A model folder, or a name on the hub. No code that comes with the weights is run."""
    if Path(request.name).is_dir():
        check_settings(Path(request.name) / "config.json")
    config = transformers.AutoConfig.from_pretrained(request.name, trust_remote_code=False, **request.options)
    named = [getattr(transformers, name, None) for name in config.architectures or () if isinstance(name, str)]
    chosen = next((c for c in named if _is_model(transformers, c)), None) or _model_class(transformers, type(config))
    if request.pretrained:
        return chosen.from_pretrained(request.name, config=config, use_safetensors=True)
    return chosen(config)


def _is_model(transformers: ModuleType, found: object) -> bool:
    """Whether what transformers has under a name is the class of a model; a file may name anything."""
    return (
        isinstance(found, type)
        and issubclass(found, transformers.PreTrainedModel)
        and found.__module__.startswith("transformers.")
    )


def _model_class(transformers: ModuleType, config: type) -> Any:
    """The class with the first of ``HEADS`` that transformers has for a configuration; the bare model if it has none."""
    autos = [getattr(transformers, f"AutoModelFor{head}", None) for head in HEADS]
    autos += [transformers.AutoBackbone, transformers.AutoModel]
    mappings = [auto._model_mapping for auto in autos if auto is not None]
    found = next((mapping[config] for mapping in mappings if config in mapping), None)
    if found is None:
        raise ModelError(
            f"transformers has no vision model for {config.__name__}; name a class, as in transformers:ResNetModel"
        )
    return found[0] if isinstance(found, (tuple, list)) else found


def _transformers_inputs(model: nn.Module, request: ModelRequest | None) -> Any:
    config: Any = model.config
    parts = list(_configurations(config))
    size = next((s for part in parts if (s := _sides(getattr(part, "image_size", None)))), None)
    if size is None:
        size = (DETECTION_SIZE,) * 2 if "Detection" in type(model).__name__ else (FALLBACK_SIZE,) * 2
    channels = next((c for part in parts if isinstance(c := getattr(part, "num_channels", None), int)), 3)
    frames = getattr(config, "num_frames", None) or (2 if _compares_images(model) else None)
    return {
        str(getattr(model, "main_input_name", "pixel_values")): image(
            *((1, frames) if frames else (1,)), channels, *size
        )
    }


def _configurations(config: Any) -> Iterator[Any]:
    """A configuration and those inside it, such as the backbone's, the outer ones first."""
    pending, seen = [config], set()
    while pending:
        config = pending.pop(0)
        if id(config) not in seen:
            seen.add(id(config))
            yield config
            pending += [value for value in vars(config).values() if hasattr(value, "model_type")]


def _compares_images(model: nn.Module) -> bool:
    """Whether a model finds the points that two images share."""
    mapping: Any = importlib.import_module("transformers.models.auto.modeling_auto")
    config: Any = model.config
    return config.model_type in getattr(mapping, "MODEL_FOR_KEYPOINT_MATCHING_MAPPING_NAMES", ())


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, dict):
        size = size.get("height"), size.get("width")
    if isinstance(size, int):
        return size, size
    whole = isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, int) for side in size)
    return (size[0], size[1]) if whole else None


TRANSFORMERS = Library("transformers", "transformers", _make_transformers, _transformers_inputs)
