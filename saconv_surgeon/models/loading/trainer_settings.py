"""What trainers store in checkpoints besides the weights: settings, paths, statistics, in classes of their own.

If only the weights are wanted, such objects are read as empty placeholders: none of their code is imported or run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

KNOWN = (
    *("argparse", "collections", "datetime", "enum", "numpy", "pathlib", "typing"),
    *("addict", "easydict", "hydra", "ml_collections", "omegaconf", "yacs"),
    *("detectron2", "lightning", "lightning_fabric", "mmcv", "mmengine", "pytorch_lightning"),
)
"""The packages whose objects are expected in honest checkpoints; anything else may be meant to do harm, and is refused."""

BUILTINS = frozenset(
    f"builtins.{name}" for name in ("int float complex bool str bytes bytearray list dict tuple set frozenset".split())
)


def are_trainer_settings(classes: Iterable[str]) -> bool:
    """Whether all of ``classes``, named as torch names the unsafe globals of a checkpoint, belong to such packages."""
    return all(name in BUILTINS or name.partition(".")[0] in KNOWN for name in classes)


def placeholders_for(classes: Iterable[str]) -> AbstractContextManager[None]:
    """Within it, ``torch.load(weights_only=True)`` puts placeholders in the place of ``classes``."""
    stand_ins = {name: _CONTAINERS.get(name) or type("Placeholder", (_kind(name),), {}) for name in classes}
    return torch.serialization.safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()])


def _kind(name: str) -> type:
    return _DictPlaceholder if name.endswith(("Dict", "CfgNode", "Config", "Munch")) else _Placeholder


class _Placeholder:
    """Takes all that a pickle gives to a constructor, a function or ``__setstate__``, and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _DictPlaceholder:
    """Becomes the one kind of dict that such a pickle may fill and give attributes."""

    def __new__(cls, *args: Any, **kwargs: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def _plain_dict(*args: Any) -> dict[Any, Any]:
    return {}


def _plain_list(*args: Any) -> list[Any]:
    return []


_CONTAINERS = {"collections.defaultdict": _plain_dict, "collections.deque": _plain_list}
"""Containers that the pickle goes on to fill, which only plain ones can be."""
