"""Which files Python would run to import a module, found without importing any of it, nor of the packages that it is in."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

NAMESPACE = "(namespace)"
"""Stands for a package without an ``__init__``: it has no file, and importing it runs nothing."""


def code_places(source: str, folder: Path | None = None) -> tuple[str, ...] | None:
    """The files that importing ``source`` runs, links resolved: those of the packages above it, then its own.

    Args:
        source: A path that ends in ``.py``, or the dotted name of a module.
        folder: The first place to look for a name; None looks in ``sys.path`` as it is.

    Returns:
        None if it is not found without importing something; a package that changes its own search path is such a case.
    """
    if source.endswith(".py"):
        return (os.path.realpath(source),)
    before = list(sys.path)
    importlib.invalidate_caches()
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        return _places_of_name(source)
    except Exception:  # finders and modules that are already loaded may do anything
        return None
    finally:
        sys.path[:] = before


def leave_working_folder() -> None:
    """Takes out of ``sys.path`` what depends on the working folder: itself, and what ``PYTHONPATH`` names relative to it."""
    named = [name for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if not Path(name).is_absolute()]
    changing = {os.path.realpath(name) for name in (".", *named)}
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) not in changing]


def _places_of_name(name: str) -> tuple[str, ...] | None:
    found: list[str] = []
    packages: list[str] | None = None
    parts = name.split(".")
    for i in range(len(parts)):
        module = ".".join(parts[: i + 1])
        if i > 0 and packages is None and module not in sys.modules:
            return None  # what is above it is no package
        origin, packages = _loaded(sys.modules[module]) if module in sys.modules else _findable(module, packages)
        if origin is None and packages is None:
            return None
        found.append(NAMESPACE if origin is None else os.path.realpath(origin))
    return None if found[-1] == NAMESPACE else tuple(found)


def _loaded(module: Any) -> tuple[str | None, list[str] | None]:
    """The file of a module that has been imported, and the folders of its submodules."""
    inside = getattr(module, "__path__", None)
    origin = getattr(module, "__file__", None) or getattr(getattr(module, "__spec__", None), "origin", None)
    return origin, None if inside is None else list(inside)


def _findable(name: str, packages: list[str] | None) -> tuple[str | None, list[str] | None]:
    """As :func:`_loaded`, of a module that has not been imported; ``packages`` are the folders of the package that it is in."""
    try:
        spec = _spec(name, packages)
        inside = None if spec is None else spec.submodule_search_locations
        return None if spec is None else spec.origin, None if inside is None else list(inside)
    except KeyError:  # a namespace in a namespace looks for the outer one among the modules that are loaded
        last = name.rpartition(".")[2]
        return None, [str(Path(place) / last) for place in packages or () if (Path(place) / last).is_dir()] or None


def _spec(name: str, packages: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = None if find is None else find(name, packages)
        if spec is not None:
            return spec
    return None
