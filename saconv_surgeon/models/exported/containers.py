"""The classes of libraries in which an exported program takes its inputs and gives its outputs.

torch knows such a class, by name, once the module that defines it has been imported; that is all that is needed of it.
"""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from pathlib import Path

import torch

DEFINED = re.compile(r'\\"(transformers\.(?:modeling_outputs|models\.\w+\.modeling_\w+))\.\w+\\"')
"""A class of a library, in the descriptions of containers: JSON inside the JSON of a program."""


def import_containers(path: Path) -> None:
    """Imports what defines the containers of the program in ``path``, if it is installed."""
    try:
        program = torch._C.PyTorchFileReader(str(path)).get_record("models/model.json").decode()
    except (RuntimeError, UnicodeDecodeError):
        return  # loading it will report what is wrong
    for module in {found[1] for found in DEFINED.finditer(program)}:
        with suppress(Exception):  # a library that does not import here
            importlib.import_module(module)


def missing_library(error: BaseException) -> str | None:
    """The library that the program needs for its containers, if that is what ``error`` complains about."""
    found = re.search(r"Deserializing (\w+)\.\S+ in pytree is not registered", str(error))
    return found[1] if found else None
