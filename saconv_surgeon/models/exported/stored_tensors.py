"""The tensors that an exported program says it has, against the bytes that are in its archive."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch.utils import _pytree as pytree

from saconv_surgeon.models.exported.program_records import ProgramRecords

SPARE = 64 << 20
"""Bytes that tensors may have beyond those that are stored: masks and positions are often expanded from a few values."""
MOST_SHARED = 16
"""How often one stored tensor may be used, on average."""


def check_tensors(config: Mapping[str, Any], folder: str, records: ProgramRecords) -> None:
    """Checks a table of payloads before torch makes tensors of it.

    Args:
        config: The JSON of ``data/weights/model_weights_config.json``, or of the constants.
        folder: The folder of its records.
        records: Those of the archive.

    Raises:
        ValueError: A tensor has no values, or they are not in the archive.
    """
    claimed = stored = 0
    seen: set[str] = set()
    for name, payload in config.get("config", {}).items():
        meta = payload.get("tensor_meta")
        if payload.get("use_pickle") or meta is None:
            continue
        device = (meta.get("device") or {}).get("type")
        if device == "meta":
            raise ValueError(
                f"its tensor {name!r:.80} is on the meta device, which holds no values; export it with them"
            )
        record = str(payload["path_name"])
        held = records.size(f"{folder}/{record}")
        wanted = _bytes_of(meta, name)
        if held == 0 and wanted:
            raise ValueError(f"its tensor {name!r:.80} has {wanted} bytes, of which none is stored")
        claimed += wanted
        if record not in seen:
            seen.add(record)
            stored += held
    if claimed > SPARE + MOST_SHARED * stored:
        raise ValueError(f"its tensors have {claimed} bytes, of which {stored} are stored")


def check_inputs(content: Any, stored: int) -> None:
    """Checks the tensors in a pickle, of which ``stored`` bytes are in the archive.

    Raises:
        ValueError: They have far more values than are stored.
    """
    tensors = [value for value in pytree.tree_leaves(content) if isinstance(value, torch.Tensor)]
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if claimed > SPARE + MOST_SHARED * stored:
        raise ValueError(f"its sample inputs have {claimed} bytes, of which {stored} are stored")


def _bytes_of(meta: Mapping[str, Any], name: str) -> int:
    """The bytes of the values of a tensor, if each has its own."""
    sides = [*(_whole(side, name) for side in meta["sizes"])]
    for number in (*meta["strides"], meta["storage_offset"]):
        _whole(number, name)
    return prod(sides) * _element_size(meta["dtype"])


def _whole(size: Any, name: str) -> int:
    """A size, which is a plain number in what is stored."""
    number = size.get("as_int") if isinstance(size, Mapping) else size
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
        raise ValueError(f"its tensor {name!r:.80} has a size that is no number")
    return number


def _element_size(code: Any) -> int:
    from torch._export.serde.serialize import deserialize_scalar_type  # torch has no public one

    dtype: torch.dtype = deserialize_scalar_type(code)
    return dtype.itemsize
