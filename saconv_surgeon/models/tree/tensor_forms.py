"""Values of a state dict as plain tensors and a description of them: what files of weights can hold, and back, to the bit.

A plain tensor is dense, of a common dtype, and no two of its elements share memory. Anything else, sparse, complex, quantised,
expanded, of a rare dtype, or nested in tuples and dicts, is taken apart into plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

PLAIN_DTYPES = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)
PARTS = "#"
"""Between the name of a value and those of its parts."""
ROWS = (torch.sparse_csr, torch.sparse_bsr)

Form = Mapping[str, Any]


class FormError(ValueError):
    """A value that has no plain form, or a description that does not fit its tensors."""


def is_plain(value: object) -> bool:
    """Whether ``value`` is a tensor that needs no description."""
    if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter) or value.is_nested:
        return False
    dense = value.layout is torch.strided and not value.is_quantized and value.dtype in PLAIN_DTYPES
    return dense and not overlaps(value)


def overlaps(value: Tensor) -> bool:
    """Whether elements of a strided tensor share memory, as those of an expanded one do, or may do so."""
    reach = 1
    for stride, size in sorted((s, n) for s, n in zip(value.stride(), value.shape, strict=True) if n > 1):
        if stride < reach:
            return bool(value.numel())
        reach = stride * (size - 1) + reach
    return False


def taken_apart(value: Any, name: str) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """The description of ``value``, None if it is plain, and its plain tensors by name.

    Raises:
        FormError: It has none.
    """
    if is_plain(value):
        return None, {name: value.detach()}
    tensors: dict[str, Tensor] = {}

    def part(content: Any, key: str) -> Any:
        inner = f"{name}{PARTS}{key}"
        form, found = taken_apart(content, inner)
        tensors.update(found)
        return {"kind": "plain", "tensor": inner} if form is None else form

    return _described(value, part), tensors


def _described(value: Any, part: Any) -> dict[str, Any]:
    if isinstance(value, Tensor):
        return _described_tensor(value.detach(), part)
    if (
        value is None
        or type(value) in (bool, int, str)
        or (type(value) is float and value == value and abs(value) != torch.inf)
    ):
        return {"kind": "value", "value": value}
    if isinstance(value, (torch.dtype, torch.qscheme)):
        return {"kind": type(value).__name__, "name": _name(value)}
    if type(value) in (list, tuple):
        return {"kind": type(value).__name__, "items": [part(item, str(i)) for i, item in enumerate(value)]}
    if isinstance(value, dict) and all(type(key) is str for key in value):
        return {"kind": "dict", "items": {key: part(item, key) for key, item in value.items()}}
    raise FormError(f"a {type(value).__name__}")


def _described_tensor(t: Tensor, part: Any) -> dict[str, Any]:
    if type(t) is not Tensor or t.is_nested:
        raise FormError(f"a {'nested tensor' if t.is_nested else type(t).__name__}")
    if t.layout is torch.sparse_coo:
        parts = {"indices": part(t._indices(), "indices"), "values": part(t._values(), "values")}
        return {"kind": "sparse_coo", "size": list(t.shape), "coalesced": t.is_coalesced(), **parts}
    if t.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        by_row = t.layout in ROWS
        compressed, plain = (t.crow_indices(), t.col_indices()) if by_row else (t.ccol_indices(), t.row_indices())
        parts = {"compressed": part(compressed, "compressed"), "plain": part(plain, "plain")}
        return {"kind": _name(t.layout), "size": list(t.shape), **parts, "values": part(t.values(), "values")}
    if t.layout is not torch.strided:
        raise FormError(f"a tensor of layout {t.layout}")
    if overlaps(t):  # all memory between its first and last element, once
        reach = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
        memory = t.as_strided((reach,), (1,))
        return {"kind": "strided", "size": list(t.shape), "stride": list(t.stride()), "memory": part(memory, "memory")}
    if t.is_quantized:
        return _described_quantised(t, part)
    if t.is_complex():
        return {"kind": "complex", "real": part(torch.view_as_real(t.resolve_conj()), "real")}
    raw = t.contiguous().reshape(-1).view(torch.uint8)
    return {"kind": "bytes", "dtype": _name(t.dtype), "size": list(t.shape), "raw": part(raw, "raw")}


def _described_quantised(t: Tensor, part: Any) -> dict[str, Any]:
    if t.dtype not in (torch.qint8, torch.quint8, torch.qint32):
        raise FormError(f"a quantised tensor of {t.dtype}")
    common = {"dtype": _name(t.dtype), "values": part(t.int_repr(), "values")}
    if t.qscheme() is torch.per_tensor_affine:
        return {"kind": "quantised", **common, "scale": t.q_scale(), "zero_point": t.q_zero_point()}
    return {
        "kind": "quantised_by_channel",
        **common,
        "axis": t.q_per_channel_axis(),
        "scales": part(t.q_per_channel_scales(), "scales"),
        "zero_points": part(t.q_per_channel_zero_points(), "zero_points"),
    }


def put_together(form: Form, tensors: Mapping[str, Tensor]) -> Any:
    """The value that ``form`` describes, of the plain ``tensors`` by name.

    Raises:
        FormError: They do not fit each other.
    """
    try:
        return _put_together(form, tensors)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise FormError(f"{type(error).__name__}: {error}") from error


def _put_together(form: Form, tensors: Mapping[str, Tensor]) -> Any:
    kind = form["kind"]

    def part(name: str) -> Any:
        return _put_together(form[name], tensors)

    if kind == "plain":
        return tensors[form["tensor"]]
    if kind == "value":
        return form["value"]
    if kind in ("dtype", "qscheme"):
        return _constant(form["name"], torch.dtype if kind == "dtype" else torch.qscheme)
    if kind == "tuple":
        return tuple(_put_together(item, tensors) for item in form["items"])
    if kind == "list":
        return [_put_together(item, tensors) for item in form["items"]]
    if kind == "dict":
        return {key: _put_together(item, tensors) for key, item in form["items"].items()}
    if kind == "sparse_coo":
        return torch.sparse_coo_tensor(
            part("indices"), part("values"), form["size"], is_coalesced=form["coalesced"], check_invariants=True
        )
    if kind in ("sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"):
        return torch.sparse_compressed_tensor(
            part("compressed"),
            part("plain"),
            part("values"),
            form["size"],
            layout=getattr(torch, kind),
            check_invariants=True,
        )
    if kind == "strided":
        return part("memory").as_strided(form["size"], form["stride"])
    if kind == "quantised":
        return torch._make_per_tensor_quantized_tensor(part("values"), form["scale"], form["zero_point"])
    if kind == "quantised_by_channel":
        return torch._make_per_channel_quantized_tensor(
            part("values"), part("scales"), part("zero_points"), form["axis"]
        )
    if kind == "complex":
        return torch.view_as_complex(part("real").clone())  # what a file holds need not be aligned for larger elements
    if kind == "bytes":
        dtype, size = _constant(form["dtype"], torch.dtype), form["size"]
        if part("raw").numel() != prod(size) * dtype.itemsize:
            raise FormError(f"{part('raw').numel()} bytes for {prod(size)} values of {dtype}")
        return part("raw").clone().view(dtype).reshape(size)
    raise FormError(f"no such kind: {kind!r}")


def _name(kind: object) -> str:
    return str(kind).removeprefix("torch.")


def _constant(name: str, kind: type) -> Any:
    found = getattr(torch, name)
    if not isinstance(found, kind):
        raise FormError(f"no such {kind.__name__}: {name!r}")
    return found
