"""Dotted paths of modules: ``layer1.0.conv1``."""

from __future__ import annotations

from torch import nn


def paths_of(model: nn.Module) -> dict[int, tuple[str, ...]]:
    """All dotted paths of every module, by ``id``; the first is the one that ``named_modules`` gives."""
    paths: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    return {key: tuple(names) for key, names in paths.items()}


def parent_of(path: str) -> str:
    """``a.b.c`` → ``a.b``."""
    return path.rpartition(".")[0]


def joined(parent: str, name: str) -> str:
    """``a.b`` and ``c`` → ``a.b.c``; either may be empty."""
    return f"{parent}.{name}" if parent and name else parent or name
