"""Models by name whose library has kept their converted layers: ``transformers:./converted``, ``timm:hf-hub:you/converted``."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.errors import ModelError
from saconv_surgeon.integrations.hugging_face_record import pretrained_models, recorded_layers
from saconv_surgeon.models.loading.libraries.known_libraries import split_library
from saconv_surgeon.models.loading.model_spec import LoadedModel, load_model

KEEPING = ("timm", "transformers")
"""Libraries whose own folders and repositories may name converted layers."""
DATA_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""The environment variable by which ``torch.load`` reads data only, whatever a library asks of it."""


def load_with_layers(
    spec: str, *, weights: Path | None = None, trust: bool = False, pretrained: bool = False
) -> LoadedModel:
    """As ``models.loading.model_spec.load_model``, with the converted layers that the library's configuration of the model names.

    Raises:
        SurgeonError: As there; also if a layer that is named cannot be made.
    """
    library, _ = split_library(spec) or ("", "")
    if library not in KEEPING:
        return load_model(spec, weights=weights, trust=trust, pretrained=pretrained)
    with suppress(ImportError):  # the library is not there, which loading says, or too old, which shows below
        importlib.import_module(f"saconv_surgeon.integrations.{library}")
    with _data_only(not trust):
        loaded = load_model(spec, weights=weights, trust=trust, pretrained=pretrained)
    for part in pretrained_models(loaded.module):
        _complete(part, spec, pretrained=pretrained)
    return loaded


def _complete(model: nn.Module, spec: str, *, pretrained: bool) -> None:
    """Puts recorded layers into a model that was built from its configuration alone."""
    layers = recorded_layers(model.config)
    if not layers or any(isinstance(module, ConvertedLayer) for module in model.modules()):
        return
    if pretrained:
        raise ModelError(
            f"{spec} names {len(layers)} converted layers, and this version of transformers has loaded it without them; "
            "transformers 4.50 or newer brings them"
        )
    from saconv_surgeon.integrations.transformers.loading import put_layers_in

    put_layers_in(model, layers)  # type: ignore[arg-type]


@contextmanager
def _data_only(wanted: bool) -> Iterator[None]:
    before = os.environ.get(DATA_ONLY)
    if wanted:
        os.environ[DATA_ONLY] = "1"
    try:
        yield
    finally:
        if wanted:
            os.environ.pop(DATA_ONLY)
        if before is not None:
            os.environ[DATA_ONLY] = before
