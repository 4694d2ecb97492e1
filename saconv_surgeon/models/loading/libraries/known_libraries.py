"""Models by the name that a library knows them by: ``timm:resnet50``, ``torchvision:resnet18(num_classes=10)`` and so on.

None of the libraries is needed by this project; each is imported when one of its models is asked for. Arguments in
parentheses go to the library's own constructor. ``pretrained`` asks the library for its published weights.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.factories import parse_expression
from saconv_surgeon.models.loading.libraries.library import Library, ModelRequest
from saconv_surgeon.models.loading.libraries.no_downloads import no_downloads
from saconv_surgeon.models.loading.libraries.smp import SMP
from saconv_surgeon.models.loading.libraries.timm import TIMM
from saconv_surgeon.models.loading.libraries.torchvision import TORCHVISION
from saconv_surgeon.models.loading.libraries.transformers import TRANSFORMERS
from saconv_surgeon.models.loading.libraries.ultralytics import ULTRALYTICS
from saconv_surgeon.models.loading.users_code import users_code

LIBRARIES = {library.extra: library for library in (TIMM, TORCHVISION, ULTRALYTICS, TRANSFORMERS, SMP)}


def split_library(spec: str) -> tuple[str, str] | None:
    """``"timm:resnet50"`` as ``("timm", "resnet50")``; None if ``spec`` does not start with a library's name."""
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
    request = replace(_request(expression, f"{prefix}:{expression}"), pretrained=pretrained, trust=trust)
    spec = f"{prefix}:{expression}"
    # what the name itself says to be elsewhere has a configuration to be fetched
    elsewhere = "/" in request.name or "hub:" in request.name or request.name.endswith(".pt")
    fetches = pretrained or (elsewhere and not Path(request.name).is_dir())
    with users_code(spec, prefix), nullcontext() if fetches else no_downloads(spec):
        model = library.make(package, request)
    return model, lambda: library.inputs(model, request)


def usual_inputs(model: nn.Module) -> Callable[[], Any] | None:
    """What a model from a file is usually run on if its class is one of the libraries'; None otherwise."""
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


def _request(expression: str, spec: str) -> ModelRequest:
    """Library names hold dots, dashes and slashes, which are not Python; only the arguments are parsed as Python."""
    found = re.fullmatch(r"([^()]+)(\(.*\))?", expression.strip(), re.DOTALL)
    if found is None:
        raise ModelError(
            f"{spec!r} does not name a model; write it as {spec.partition(':')[0]}:name or …:name(arguments)"
        )
    _, args, kwargs = parse_expression(f"model{found[2] or ''}", spec)
    return ModelRequest(found[1], tuple(args or ()), tuple(kwargs.items()))
