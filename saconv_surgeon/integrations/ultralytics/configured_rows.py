"""Which rows of a model were built because its configuration names a block of this package."""

from __future__ import annotations

from torch import nn

ATTRIBUTE = "saconv_surgeon_rows"
"""Where the ``nn.Sequential`` of a model's rows keeps, by index, the word that its configuration has for a row."""


def configured_modules(model: nn.Module) -> set[int]:
    """The ``id`` of every module in a row that was built by a word of this package."""
    found: set[int] = set()
    for rows in model.modules():
        for index in vars(rows).get(ATTRIBUTE, ()):
            found |= {id(part) for part in rows.get_submodule(str(index)).modules()}
    return found
