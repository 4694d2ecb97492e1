"""The model card of a converted Hugging Face model: what was converted, the proof, the price."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import ModelCard, ModelCardData
from torch import nn
from transformers import PreTrainedModel

from saconv_surgeon.errors import UsageError
from saconv_surgeon.report.commands.convert import Converted, conversion_report
from saconv_surgeon.report.formats import markdown

TAG = "saconv-surgeon"
BEGIN, END = f"<!-- {TAG} -->", f"<!-- /{TAG} -->"
LOADING = """```python
import saconv_surgeon.integrations.transformers  # pip install 'saconv-surgeon[transformers]'
from transformers import {kind}

model = {kind}.from_pretrained("{folder}")
```"""


class ConvertedModel(Converted, Protocol):
    """A conversion with its model."""

    model: nn.Module


def save_pretrained(conversion: ConvertedModel, folder: str | Path, **options: Any) -> None:
    """``conversion.model.save_pretrained(folder)``, with the proof and the price in the model card, ``README.md``.

    A card that is there keeps what it says; only what this function wrote to it before is replaced. The proof is that of the
    conversion, before any training.

    Args:
        conversion: What :func:`saconv_surgeon.convert` gave, of a Hugging Face model.
        folder: Where to.
        **options: As for ``save_pretrained`` of transformers: ``max_shard_size`` and so on.

    Raises:
        UsageError: The model is none of transformers.
    """
    model = conversion.model
    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"{type(model).__name__} is no model of transformers; save the conversion with saconv_surgeon.save"
        )
    model.save_pretrained(str(folder), **options)
    place = Path(folder) / "README.md"
    card = ModelCard.load(place) if place.exists() else ModelCard(f"---\n{_data()}\n---\n")
    data: Any = card.data
    data.tags = [*(tag for tag in data.tags or [] if tag != TAG), TAG]
    section = f"{BEGIN}\n{_section(conversion, type(model).__name__, Path(folder).name)}\n{END}"
    old = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text = old.sub(lambda _: section, card.text) if old.search(card.text) else f"{card.text.rstrip()}\n\n{section}\n"
    card.text = text
    card.save(place)


def _data() -> str:
    return str(ModelCardData(library_name="transformers", tags=[TAG]).to_yaml())


def _section(conversion: Converted, kind: str, folder: str) -> str:
    base = conversion.plan.base.model
    report = markdown.render(conversion_report(conversion, base or kind, every_site=False))
    return f"{report}\n{LOADING.format(kind=kind, folder=folder)}"
