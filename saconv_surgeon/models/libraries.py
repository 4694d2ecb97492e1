"""Models by the name that a library knows them by: ``timm:resnet50``, ``torchvision:resnet18(num_classes=10)`` and the like.

None of the libraries is needed by this project; each is imported when one of its models is asked for. Arguments in
parentheses go to the library's own constructor. ``pretrained`` asks the library for its published weights.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, SurgeonError, UntrustedError, UserCodeError
from saconv_surgeon.models.factories import parse_expression

FALLBACK_SIZE = 224
DETECTION_SIZE = 640
SEGMENTATION_SIZE = 520
FEWEST_FOLDED = 12
"""Channels of 2×2 pixels in colour."""
VIDEO_FRAMES = 16
FLOW_SIZE = 128
"""The smallest image that RAFT takes; its published weights were made on others, so there is no size of its own."""


@dataclass(frozen=True)
class Order:
    """What the user asked a library for: ``name(*args, **kwargs)``."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    pretrained: bool = False
    trust: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments."""
        return dict(self.kwargs)


@dataclass(frozen=True)
class Library:
    """One library: its package, the extra that installs it, how it makes a model, and what that model is usually run on.

    ``inputs`` gets the model and the order that it was made by, which is None for a model that came out of a file.
    """

    package: str
    extra: str
    make: Callable[[ModuleType, Order], nn.Module]
    inputs: Callable[[nn.Module, Order | None], Any]


def split_library(spec: str) -> tuple[str, str] | None:
    """``"timm:resnet50"`` as ``("timm", "resnet50")``; None where ``spec`` does not begin with a library's name."""
    prefix, colon, rest = spec.partition(":")
    return (prefix, rest) if colon and prefix in LIBRARIES else None


def make_model(
    prefix: str, expression: str, *, pretrained: bool = False, trust: bool = False
) -> tuple[nn.Module, Callable[[], Any]]:
    """The model that the library at ``prefix`` calls ``expression``, and a function that gives its usual inputs.

    Raises:
        ModelError: The library is not installed, or knows no such model.
        UserCodeError: The library's code raised.
    """
    library = LIBRARIES[prefix]
    package = _import(library, prefix)
    order = replace(_order(expression, f"{prefix}:{expression}"), pretrained=pretrained, trust=trust)
    try:
        model = library.make(package, order)
    except SurgeonError:
        raise
    except Exception as error:
        raise UserCodeError(f"{prefix}:{expression} raised {type(error).__name__}: {error}") from error
    return model, lambda: library.inputs(model, order)


def usual_inputs(model: nn.Module) -> Callable[[], Any] | None:
    """What a model out of a file is usually run on, where its class is one of the libraries'; None elsewhere."""
    package = type(model).__module__.partition(".")[0]
    library = next((known for known in LIBRARIES.values() if known.package == package), None)
    return None if library is None else lambda: library.inputs(model, None)


def _import(library: Library, prefix: str) -> ModuleType:
    try:
        return importlib.import_module(library.package)
    except ModuleNotFoundError as error:
        if error.name != library.package:
            raise ModelError(f"{library.package} cannot be imported: {error}") from error
        raise ModelError(
            f"{prefix}: models need {library.package}, which is not installed; "
            f"pip install 'saconv-surgeon[{library.extra}]'"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{library.package} is installed but cannot be imported ({type(error).__name__}: {error}); "
            "do its version and torch's belong together?"
        ) from error


def _order(expression: str, spec: str) -> Order:
    """Library names hold dots, dashes and slashes, which are no Python; only the arguments are parsed as such."""
    found = re.fullmatch(r"([^()]+)(\(.*\))?", expression.strip(), re.DOTALL)
    if found is None:
        raise ModelError(f"{spec!r} names no model; write it as {spec.partition(':')[0]}:name or …:name(arguments)")
    _, args, kwargs = parse_expression(f"model{found[2] or ''}", spec)
    return Order(found[1], tuple(args or ()), tuple(kwargs.items()))


def _unknown(name: str, known: Iterable[str], prefix: str) -> ModelError:
    close = difflib.get_close_matches(name, list(known), n=3)
    return ModelError(
        f"{prefix} has no model {name!r}"
        + (f" (near: {', '.join(map(repr, close))})" if close else "; see its own list")
    )


def _channels(model: nn.Module, order: Order | None, option: str, usual: int) -> int:
    """How many channels an image for ``model`` has: as ordered; for a model out of a file, what its first convolution takes.

    That says nothing where the model first folds pixels into channels, twelve or more of them then.
    """
    if order is not None:
        return int(order.options.get(option, usual))
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1), None)
    return first.in_channels if first is not None and first.in_channels < FEWEST_FOLDED else usual


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ------------------------------------------------------------------ timm


def _make_timm(timm: ModuleType, order: Order) -> nn.Module:
    plain = order.name.partition(".")[0]
    if "hub:" not in order.name and "dir:" not in order.name and not timm.is_model(plain):
        raise _unknown(plain, timm.list_models(), "timm")
    return timm.create_model(order.name, *(order.args or (order.pretrained,)), **order.options)


def _timm_inputs(model: nn.Module, order: Order | None) -> Any:
    config = importlib.import_module("timm.data").resolve_model_data_config(model)
    channels, height, width = config["input_size"]
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if isinstance(size, (tuple, list)) and all(isinstance(side, int) for side in size):
        height, width = size
    return _image(1, _channels(model, order, "in_chans", channels), height, width)


# ------------------------------------------------------------------ torchvision


def _make_torchvision(torchvision: ModuleType, order: Order) -> nn.Module:
    models = importlib.import_module("torchvision.models")
    if order.name.lower() not in models.list_models():
        raise _unknown(order.name, models.list_models(), "torchvision")
    weights = {"weights": "DEFAULT"} if order.pretrained else {"weights": None, "weights_backbone": None}
    builder = models.get_model_builder(order.name)
    if "weights_backbone" not in importlib.import_module("inspect").signature(builder).parameters:
        weights.pop("weights_backbone", None)
    quiet = {"init_weights": True} if order.name in ("googlenet", "inception_v3") and not order.pretrained else {}
    return builder(*order.args, **{**weights, **quiet, **order.options})


def _torchvision_inputs(model: nn.Module, order: Order | None) -> Any:
    family = type(model).__module__.removeprefix("torchvision.models.").partition(".")[0]
    if family == "detection":
        return ([_image(3, *_detection_size(model))],)
    if family == "optical_flow":
        return (_image(1, 3, FLOW_SIZE, FLOW_SIZE), _image(1, 3, FLOW_SIZE, FLOW_SIZE))
    height, width = _published_size(order) or (
        (SEGMENTATION_SIZE,) * 2 if family == "segmentation" else (FALLBACK_SIZE,) * 2
    )
    if any(isinstance(m, nn.Conv3d) for m in model.modules()):
        return _image(1, 3, VIDEO_FRAMES, height, width)
    return _image(1, 3, height, width)


def _detection_size(model: nn.Module) -> tuple[int, int]:
    transform: Any = model.transform
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return height, width
    return transform.min_size[-1], transform.min_size[-1]


def _published_size(order: Order | None) -> tuple[int, int] | None:
    """(H, W) that the published weights of a model were made for."""
    if order is None:
        return None
    weights = importlib.import_module("torchvision.models").get_model_weights(order.name)
    crop = getattr(weights.DEFAULT.transforms(), "crop_size", None)
    return (crop[0], crop[-1]) if crop else None


# ------------------------------------------------------------------ Ultralytics


def _make_ultralytics(ultralytics: ModuleType, order: Order) -> nn.Module:
    stem = order.name.removesuffix(".pt").removesuffix(".yaml").removesuffix(".yml")
    published = order.pretrained or order.name.endswith(".pt")
    if published and not order.trust:
        raise UntrustedError(
            f"ultralytics:{order.name}: Ultralytics publishes its weights as pickled models, which run code when they are "
            f"loaded; give --trust if you trust them, or ultralytics:{stem}.yaml for random weights"
        )
    name = f"{stem}.pt" if published else f"{stem}.yaml"
    try:
        family = ultralytics.RTDETR if "rtdetr" in stem else ultralytics.YOLO
        return family(name, *order.args, **order.options).model
    except FileNotFoundError:
        folder = Path(str(ultralytics.__file__)).parent / "cfg" / "models"
        raise _unknown(name, (path.name for path in folder.rglob("*.yaml")), "ultralytics") from None


def _ultralytics_inputs(model: nn.Module, order: Order | None) -> Any:
    given: Any = getattr(model, "args", None) or {}
    given = given if isinstance(given, dict) else vars(given)
    classifies = "Classif" in type(model).__name__ or given.get("task") == "classify"
    settings: Any = getattr(model, "yaml", None) or {}
    size = given.get("imgsz") if order is None else None  # a checkpoint knows the size it was trained at
    side = size if isinstance(size, int) else FALLBACK_SIZE if classifies else DETECTION_SIZE
    return _image(1, int(settings.get("channels", settings.get("ch", 3))), side, side)


# ------------------------------------------------------------------ transformers

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


def _make_transformers(transformers: ModuleType, order: Order) -> nn.Module:
    if Path(order.name).is_dir() or "/" in order.name:
        return _transformers_published(transformers, order)
    found = getattr(transformers, order.name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        config: Any = getattr(found, "config_class", None)
        return found(config(*order.args, **order.options))
    mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    kind = order.name if order.name in mapping else order.name.replace("_", "-")
    if kind not in mapping:
        raise _unknown(order.name, [*mapping, *(n for n in dir(transformers) if "For" in n)], "transformers")
    if order.pretrained:
        raise ModelError(
            f"transformers:{order.name} names an architecture; pretrained weights have names such as org/model"
        )
    return _model_class(transformers, mapping[kind])(mapping[kind](*order.args, **order.options))


def _transformers_published(transformers: ModuleType, order: Order) -> nn.Module:
    """A model folder, or a name on the hub. No code that lies beside the weights is run."""
    config = transformers.AutoConfig.from_pretrained(order.name, trust_remote_code=False, **order.options)
    named = [getattr(transformers, name, None) for name in config.architectures or ()]
    chosen = next((c for c in named if c is not None), None) or _model_class(transformers, type(config))
    if order.pretrained:
        return chosen.from_pretrained(order.name, config=config, use_safetensors=True)
    return chosen(config)


def _model_class(transformers: ModuleType, config: type) -> Any:
    """The class with the first of ``HEADS`` that transformers has for a configuration; the bare model where it has none."""
    autos = [getattr(transformers, f"AutoModelFor{head}", None) for head in HEADS]
    autos += [transformers.AutoBackbone, transformers.AutoModel]
    mappings = [auto._model_mapping for auto in autos if auto is not None]
    found = next((mapping[config] for mapping in mappings if config in mapping), None)
    if found is None:
        raise ModelError(
            f"transformers has no vision model for {config.__name__}; name a class, as in transformers:ResNetModel"
        )
    return found[0] if isinstance(found, (tuple, list)) else found


def _transformers_inputs(model: nn.Module, order: Order | None) -> Any:
    config: Any = model.config
    parts = [config, *(getattr(config, part, None) for part in ("vision_config", "backbone_config"))]
    size = next((s for p in parts if p is not None and (s := _sides(getattr(p, "image_size", None)))), None)
    if size is None:
        size = (DETECTION_SIZE,) * 2 if "Detection" in type(model).__name__ else (FALLBACK_SIZE,) * 2
    channels = next((c for p in parts if p is not None and (c := getattr(p, "num_channels", None))), 3)
    frames = getattr(config, "num_frames", None)
    return {
        str(getattr(model, "main_input_name", "pixel_values")): _image(
            *((1, frames) if frames else (1,)), channels, *size
        )
    }


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, dict):
        size = size.get("height"), size.get("width")
    if isinstance(size, int):
        return size, size
    whole = isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, int) for side in size)
    return (size[0], size[1]) if whole else None


# ------------------------------------------------------------------ segmentation-models-pytorch


def _make_smp(smp: ModuleType, order: Order) -> nn.Module:
    arch = order.name.lower()
    known = [
        name for name in dir(smp) if isinstance(getattr(smp, name), type) and issubclass(getattr(smp, name), nn.Module)
    ]
    if arch not in map(str.lower, known):
        raise _unknown(order.name, known, "smp")
    weights = {"encoder_weights": "imagenet" if order.pretrained else None}
    return smp.create_model(arch, *order.args, **{**weights, **order.options})


def _smp_inputs(model: nn.Module, order: Order | None) -> Any:
    return _image(1, _channels(model, order, "in_channels", 3), FALLBACK_SIZE, FALLBACK_SIZE)


LIBRARIES = {
    "timm": Library("timm", "timm", _make_timm, _timm_inputs),
    "torchvision": Library("torchvision", "torchvision", _make_torchvision, _torchvision_inputs),
    "ultralytics": Library("ultralytics", "ultralytics", _make_ultralytics, _ultralytics_inputs),
    "transformers": Library("transformers", "transformers", _make_transformers, _transformers_inputs),
    "smp": Library("segmentation_models_pytorch", "smp", _make_smp, _smp_inputs),
}
