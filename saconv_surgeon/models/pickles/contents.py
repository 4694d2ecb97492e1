"""From the description of a checkpoint to its tensors, which are made of the bytes of the file and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.models.pickles.dtypes import ARRAYS, DTYPE_BYTES
from saconv_surgeon.models.pickles.looking import Look
from saconv_surgeon.models.pickles.stand_ins import Made, Name, RefusedError, Storage, TensorPlan
from saconv_surgeon.models.pickles.tensor_checks import tensor_in

MOST_MODULES, LONGEST_PATH = 50_000, 2000


def content_of(look: Look) -> Any:
    """What a file without findings holds: plain containers and tensors. Settings that are like a dict become dicts, and
    whole models the dicts of their states.

    Tensors that share a storage in the file share it here. Arrays of numpy become tensors if there are no others.

    Raises:
        RefusedError: A tensor's parts do not fit together after all.
    """
    maker = _Maker(look)
    root = [look.value]
    maker.fill(root)
    return root[0]


class _Maker:
    """Makes the tensors of one file; a storage is read once."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.storages: dict[str, Tensor] = {}
        self.made: dict[int, tuple[Any, Any]] = {}
        self.arrays = not _holds_tensors(look.value)

    def fill(self, root: list[Any]) -> None:
        """Exchanges, in place and without recursion into containers, every description in ``root`` and below."""
        waiting: list[Any] = [root]
        seen = {id(root)}
        while waiting:
            container = waiting.pop()
            places = list(container.items()) if isinstance(container, dict) else list(enumerate(container))
            for place, value in places:
                new = self.exchanged(value)
                if new is not value and not isinstance(container, tuple):  # the parts of a tuple were exchanged with it
                    container[place] = new
                if isinstance(new, (dict, list, tuple)) and id(new) not in seen:
                    seen.add(id(new))
                    waiting.append(new)

    def exchanged(self, value: Any) -> Any:
        """A value without descriptions in it; lists and dicts as they are. The same for the same value."""
        if isinstance(value, Name):
            is_dtype = value.module == "torch" and value.name in DTYPE_BYTES
            return getattr(torch, value.name, value) if is_dtype else value
        if not isinstance(value, (tuple, TensorPlan, Made)):
            return value
        if id(value) not in self.made:
            new = tuple(map(self.exchanged, value)) if isinstance(value, tuple) else self._made(value)
            self.made[id(value)] = (value, new)
            self.made[id(new)] = (new, new)
        return self.made[id(value)][1]

    def _made(self, value: TensorPlan | Made) -> Any:
        plan = tensor_in(value)
        if plan is not None:
            try:
                return self.tensor(plan)
            except (RuntimeError, TypeError, ValueError) as error:
                raise RefusedError("tensor", f"torch does not accept a tensor of it ({str(error)[:120]})") from error
        assert isinstance(value, Made)
        if isinstance(value.state, dict) and "_parameters" in value.state:
            return state_of(value)
        if self.arrays and (found := _array(value)) is not None:
            return found
        return value.items if value.items else value

    def tensor(self, plan: TensorPlan) -> Tensor:
        """The tensor that a plan describes."""
        made = _BUILDERS[plan.kind](self, plan)
        for flag in plan.flags:
            made = made.conj() if flag == "conj" else torch._neg_view(made)
        if plan.parameter:
            return nn.Parameter(made, plan.requires_grad and (made.is_floating_point() or made.is_complex()))
        return made.requires_grad_() if plan.requires_grad else made

    def strided(self, plan: TensorPlan) -> Tensor:
        """A tensor of a storage."""
        assert plan.storage is not None
        dtype: torch.dtype = getattr(torch, plan.dtype)
        storage = self.storage(plan.storage, plan.dtype).untyped_storage()
        offset = plan.offset + plan.storage.start // DTYPE_BYTES[plan.dtype]
        return torch.empty(0, dtype=dtype).set_(storage, offset, plan.size, plan.stride)

    def storage(self, storage: Storage, dtype: str) -> Tensor:
        """The bytes of a storage, in memory of torch's own, in the order of this machine."""
        found = self.storages.get(storage.key)
        if found is None:
            raw = bytearray(self.look.storage(storage.key))
            found = torch.frombuffer(raw, dtype=torch.uint8).clone() if raw else torch.empty(0, dtype=torch.uint8)
            if self.look.byteorder != sys.byteorder:
                found.untyped_storage().byteswap(getattr(torch, dtype))
            self.storages[storage.key] = found
        return found

    def quantized(self, plan: TensorPlan) -> Tensor:
        """A quantized tensor with the parameters of its quantizer."""
        assert plan.storage is not None
        scheme, *parameters = (self.exchanged(part) for part in plan.parts)
        typed = torch.storage.TypedStorage(
            wrap_storage=self.storage(plan.storage, plan.dtype).untyped_storage(),
            dtype=getattr(torch, plan.dtype),
            _internal=True,
        )
        quantizer = (getattr(torch, scheme), *parameters)
        return torch._utils._rebuild_qtensor(typed, plan.offset, plan.size, plan.stride, quantizer, False, None)

    def sparse(self, plan: TensorPlan) -> Tensor:
        """A sparse tensor, whose indices are checked."""
        layout, *parts = (self.exchanged(part) for part in plan.parts)
        if layout == "sparse_coo":
            indices, values = parts
            return torch.sparse_coo_tensor(indices, values, plan.size, check_invariants=True)
        rows, columns, values = parts
        kind: torch.layout = getattr(torch, layout)
        return torch.sparse_compressed_tensor(rows, columns, values, plan.size, layout=kind, check_invariants=True)

    def meta(self, plan: TensorPlan) -> Tensor:
        """A tensor without storage."""
        return torch.empty_strided(plan.size, plan.stride, dtype=getattr(torch, plan.dtype), device="meta")


_BUILDERS: dict[str, Callable[[_Maker, TensorPlan], Tensor]] = {
    "strided": _Maker.strided,
    "quantized": _Maker.quantized,
    "sparse": _Maker.sparse,
    "meta": _Maker.meta,
}


def state_of(model: Made) -> dict[str, Any]:
    """The state dict of a whole model by its description: parameters and buffers, of the modules in it too.

    Raises:
        RefusedError: It has more parts than any model; it may be a part of itself.
    """
    found: dict[str, Any] = {}
    waiting = [("", model)]
    for _ in range(MOST_MODULES):
        if not waiting:
            return found
        prefix, each = waiting.pop()
        state = each.state if isinstance(each, Made) and isinstance(each.state, dict) else {}
        passing = state.get("_non_persistent_buffers_set")
        passing = passing if isinstance(passing, set) else set()
        for kind in ("_parameters", "_buffers"):
            entries = state.get(kind)
            for name, value in entries.items() if isinstance(entries, dict) else ():
                if (
                    tensor_in(value) is not None
                    and isinstance(name, str)
                    and not (kind == "_buffers" and name in passing)
                ):
                    found[prefix + name] = value
        parts = state.get("_modules")
        inner = [(f"{prefix}{name}.", part) for name, part in parts.items()] if isinstance(parts, dict) else []
        if len(prefix) > LONGEST_PATH:
            break
        waiting.extend(reversed(inner))
    raise RefusedError("limits", f"its model has more than {MOST_MODULES} modules, or is a part of itself")


def _holds_tensors(value: Any) -> bool:
    waiting, seen = [value], {id(value)}
    while waiting:
        each = waiting.pop()
        if tensor_in(each) is not None:
            return True
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, (list, tuple)) else ()
        inner = [*each.items.values(), *each.elements] if isinstance(each, Made) else inner
        for part in inner:
            if id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)
    return False


def _array(made: Made) -> Tensor | None:
    """An array of numpy as a tensor; None if it is no array, or one that torch has no dtype for."""
    if made.of.name == "_reconstruct" and isinstance(made.state, tuple) and len(made.state) == 5:
        _version, shape, kind, fortran, raw = made.state
    elif made.of.name == "_frombuffer" and len(made.args) == 4:
        raw, kind, shape, order = made.args
        fortran = order == "F"
    else:
        return None
    dtype = _dtype_of_array(kind)
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if dtype is None or not isinstance(data, (bytes, bytearray)) or not isinstance(shape, tuple):
        return None
    if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) * dtype.itemsize != len(data):
        return None
    flat = torch.frombuffer(bytearray(data), dtype=dtype).clone() if data else torch.empty(0, dtype=dtype)
    if fortran and len(shape) > 1:
        return flat.reshape(shape[::-1]).permute(*range(len(shape))[::-1])
    return flat.reshape(shape)


def _dtype_of_array(kind: Any) -> torch.dtype | None:
    """The dtype of an array in the byte order of nearly all machines; None if torch has none."""
    if not isinstance(kind, Made) or kind.of.name != "dtype" or not kind.args or not isinstance(kind.args[0], str):
        return None
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "|"
    name = ARRAYS.get(kind.args[0])
    return getattr(torch, name) if name is not None and order in ("<", "|", "=") else None
