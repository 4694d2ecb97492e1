"""Models of Ultralytics."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.errors import UntrustedError
from saconv_surgeon.models.loading.libraries.example_inputs import DETECTION_SIZE, FALLBACK_SIZE, image
from saconv_surgeon.models.loading.libraries.library import Library, ModelRequest, unknown
from saconv_surgeon.models.loading.libraries.yolo_limits import check_yaml


def _make_ultralytics(ultralytics: ModuleType, request: ModelRequest) -> nn.Module:
    stem = request.name.removesuffix(".pt").removesuffix(".yaml").removesuffix(".yml")
    published = request.pretrained or request.name.endswith(".pt")
    if published and not request.trust:
        raise UntrustedError(
            f"ultralytics:{request.name}: Ultralytics publishes its weights as pickled models, which run code when they are "
            f"loaded; give --trust if you trust them, or ultralytics:{stem}.yaml for random weights"
        )
    name = f"{stem}.pt" if published else f"{stem}.yaml"
    try:
        if not request.trust:
            _check_configuration(name)
        family = ultralytics.RTDETR if "rtdetr" in stem else ultralytics.YOLO
        return family(name, *request.args, **request.options).model
    except FileNotFoundError:
        folder = Path(str(ultralytics.__file__)).parent / "cfg" / "models"
        raise unknown(name, (path.name for path in folder.rglob("*.yaml")), "ultralytics") from None


def _check_configuration(name: str) -> None:
    """Refuses a configuration that runs code: Ultralytics evaluates its ``activation`` and calls what its layers name.

    A file in the working directory comes before the library's own of the same name.

    Raises:
        UntrustedError: Such a configuration.
    """
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    for file in _files(name, tasks):
        check_yaml(file)
    configuration = tasks.yaml_model_load(name)
    activation = configuration.get("activation")
    found = [] if activation is None or _makes_module(activation) else [f"activation {activation!r}"]
    layers = [*(configuration.get("backbone") or ()), *(configuration.get("head") or ())]
    found += [f"layer {layer[2]!r}" for layer in layers if not _is_module(str(layer[2]), tasks)]
    if found:
        raise UntrustedError(
            f"{configuration['yaml_file']} is a configuration that would run code: "
            + ", ".join(dict.fromkeys(found))
            + ". If you trust whoever made the file, give --trust"
        )


def _files(name: str, tasks: Any) -> list[Path]:
    """The files that Ultralytics may read for a name: that itself, and that of all sizes of a model."""
    if "://" in name:
        raise UntrustedError(f"ultralytics:{name} would be downloaded; download it yourself, or give --trust")
    of_all_sizes = re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", name)
    found = [tasks.check_yaml(each, hard=False) for each in dict.fromkeys((name, of_all_sizes))]
    return [Path(each) for each in found if isinstance(each, str) and each]


def _makes_module(expression: object) -> bool:
    """Whether ``expression`` only calls a class of ``torch.nn`` with literals, as in ``nn.LeakyReLU(0.1)``."""
    found = re.fullmatch(r"(?:torch\.)?nn\.([A-Za-z]\w*)(\(.*\))", str(expression).strip(), re.DOTALL)
    if found is None or not _is_class(getattr(nn, found[1], None)):
        return False
    try:
        call = ast.parse(f"f{found[2]}", mode="eval").body
        return isinstance(call, ast.Call) and all(
            isinstance(ast.literal_eval(value), (int, float, bool))
            for value in [*call.args, *(keyword.value for keyword in call.keywords)]
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_module(name: str, tasks: Any) -> bool:
    """Whether ``name`` is that of a layer in a configuration, looked up as Ultralytics does."""
    operators = "torchvision.ops."
    if "nn." in name:
        return _is_class(getattr(nn, name.removeprefix("nn."), None)) and name.startswith("nn.")
    if operators in name:
        return name.startswith(operators) and name.removeprefix(operators).isidentifier()
    found = vars(tasks).get(name)
    return _is_class(found) and not issubclass(
        found, tasks.BaseModel
    )  # a whole model would read a configuration of its own


def _is_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _ultralytics_inputs(model: nn.Module, request: ModelRequest | None) -> Any:
    given: Any = getattr(model, "args", None) or {}
    given = given if isinstance(given, dict) else vars(given)
    classifies = "Classif" in type(model).__name__ or given.get("task") == "classify"
    settings: Any = getattr(model, "yaml", None) or {}
    size = given.get("imgsz") if request is None else None  # a checkpoint knows the size it was trained at
    side = size if isinstance(size, int) else FALLBACK_SIZE if classifies else DETECTION_SIZE
    return image(1, int(settings.get("channels", settings.get("ch", 3))), side, side)


ULTRALYTICS = Library("ultralytics", "ultralytics", _make_ultralytics, _ultralytics_inputs)
