"""Blocks of this package that a configuration has under a name of Ultralytics (``ultralytics.nn.tasks.Focus = SAConvBlock``).

The name means them only in the process that has assigned it. So they get a word of their own as soon as such a model is copied,
saved or loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from ultralytics.nn import tasks

from saconv_surgeon.convs.geometry import settings_of
from saconv_surgeon.integrations.ultralytics.configured_blocks import WORDS
from saconv_surgeon.integrations.ultralytics.configured_rows import ATTRIBUTE
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import configuration_of
from saconv_surgeon.integrations.ultralytics.registration import ConfiguredRows, register

WORD_OF: Mapping[type, str] = {word.result: name for name, word in WORDS.items()}


def name_borrowed_rows(model: nn.Module) -> None:
    """Renames, in the configuration of ``model``, rows that hold a block of this package under another name, and registers.

    Only rows that are built the same by the word: arguments that mean something else there leave a row as it is.
    """
    configuration, layers = configuration_of(model), getattr(model, "model", None)
    if configuration is None or not isinstance(layers, nn.Sequential):
        return
    rows = _rows_of(configuration)
    words = {i: word for i, block in enumerate(layers) if (word := _word_for(block)) is not None}
    borrowed = {i: word for i, word in words.items() if len(rows) == len(layers) and rows[i][2] != word}
    if not borrowed:
        return
    proven = {i: word for i, word in borrowed.items() if _is_built_by(word, i, configuration, layers)}
    for i, word in proven.items():
        rows[i][2] = word
    if proven:
        register()
        setattr(layers, ATTRIBUTE, ConfiguredRows({**vars(layers).get(ATTRIBUTE, {}), **proven}))


def _rows_of(configuration: Mapping[str, Any]) -> list[Any]:
    return [*configuration.get("backbone", ()), *configuration.get("head", ())]


def _word_for(block: nn.Module) -> str | None:
    """The word for a row of the model, which may hold a block several times."""
    kinds = {type(part) for part in (block if type(block) is nn.Sequential else [block])}
    return WORD_OF.get(kinds.pop()) if len(kinds) == 1 else None


def _is_built_by(word: str, i: int, configuration: Mapping[str, Any], layers: nn.Sequential) -> bool:
    """Whether the word, in place of the name, gives the block that the model has; built without weights."""
    renamed = copy.deepcopy(dict(configuration))
    _rows_of(renamed)[i][2] = word
    register()
    try:
        with torch.device("meta"):
            built, _ = tasks.parse_model(renamed, renamed.get("channels", 3), verbose=False)
    except Exception:  # whatever constructors raise for these arguments, or without values
        return False
    return _structure(built[i]) == _structure(layers[i])


def _structure(block: nn.Module) -> list[Any]:
    """Classes, settings of convolutions and shapes: all but what a model sets in its blocks afterwards, as in its norms."""
    kinds = [(path, type(part)) for path, part in block.named_modules(remove_duplicate=False)]
    settings = [settings_of(part) for part in block.modules() if isinstance(part, nn.Conv2d)]
    return [kinds, settings, {name: value.shape for name, value in block.state_dict().items()}]
