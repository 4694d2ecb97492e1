"""Models with huggingface_hub's ``PyTorchModelHubMixin`` keep their converted layers: those of segmentation-models-pytorch, say.

::

    import saconv_surgeon.integrations.hub_mixin  # before from_pretrained

    conversion.model.save_pretrained("converted")  # config.json names the converted layers
    model = smp.from_pretrained("converted")

Without the import, weights that are loaded strictly, as segmentation-models-pytorch does, are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.integrations.hugging_face_record import MIXIN_RECORD, record_in_mixin
from saconv_surgeon.integrations.layers_in_models import convert_in_place, read_layers
from saconv_surgeon.integrations.patching import wrap


def put_layers_in(model: nn.Module, weights: str) -> None:
    """Converts the convolutions that the configuration beside the file ``weights`` names, in place.

    Raises:
        UsageError: It names layers that cannot be made.
    """
    try:
        content = json.loads((Path(weights).parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    found = content.get(MIXIN_RECORD) if isinstance(content, dict) else None
    if found:
        convert_in_place(model, read_layers(found))
        guard(model)
        record_in_mixin(model)


def _with_layers(stock: Callable[..., Any]) -> Callable[..., Any]:
    def load(cls: type, model: nn.Module, model_file: str, *args: Any, **kwargs: Any) -> Any:
        put_layers_in(model, model_file)
        return stock.__func__(cls, model, model_file, *args, **kwargs)  # type: ignore[attr-defined]

    return load


def _register() -> None:
    for name in ("_load_as_safetensor", "_load_as_pickle"):
        wrap(PyTorchModelHubMixin, name, _with_layers)
        ours = PyTorchModelHubMixin.__dict__[name]
        if not isinstance(ours, classmethod):
            setattr(PyTorchModelHubMixin, name, classmethod(ours))


_register()
