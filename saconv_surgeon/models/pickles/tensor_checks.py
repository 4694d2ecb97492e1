"""The calls that make tensors, checked: sizes, strides and parts against the storages that the file has."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from saconv_surgeon.models.pickles.budget import Budget
from saconv_surgeon.models.pickles.dtypes import DTYPE_BYTES, ELEMENTS_IN_ONE_BYTE, dtype_of
from saconv_surgeon.models.pickles.known_names import kind_of
from saconv_surgeon.models.pickles.stand_ins import Made, Name, RefusedError, Storage, TensorPlan, described

MOST_DIMENSIONS = 64
LARGEST = 2**62
"""Elements; torch counts in 64 bits."""
Args = tuple[Any, ...]


def sizes(value: Any, what: str) -> tuple[int, ...]:
    """A size or stride as a tuple of numbers that are not negative.

    Raises:
        RefusedError: It is none.
    """
    if not isinstance(value, (tuple, list)) or len(value) > MOST_DIMENSIONS:
        raise RefusedError(
            "tensor", f"the {what} of a tensor is {described(value)}, not a tuple of up to {MOST_DIMENSIONS}"
        )
    if not all(type(n) is int and 0 <= n <= LARGEST for n in value):
        raise RefusedError("tensor", f"the {what} of a tensor has entries that are no numbers from 0 on")
    return tuple(value)


def strided(
    storage: Any, offset: Any, size: Any, stride: Any, budget: Budget, dtype: str | None = None, **more: Any
) -> TensorPlan:
    """A tensor of a storage.

    Raises:
        RefusedError: It is larger than the storage, or reaches beyond its end.
    """
    if not isinstance(storage, Storage):
        raise RefusedError("tensor", f"a tensor is made of {described(storage)} in the place of its storage")
    size, stride = sizes(size, "size"), sizes(stride, "stride")
    if len(size) != len(stride) or type(offset) is not int or offset < 0:
        raise RefusedError("tensor", "size, stride and offset of a tensor do not fit together")
    dtype = dtype or storage.dtype
    width, packed, elements = DTYPE_BYTES[dtype], ELEMENTS_IN_ONE_BYTE.get(dtype, 1), prod(size)
    if elements:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if (last // packed + 1) * width > storage.nbytes:
            raise RefusedError(
                "tensor",
                f"a tensor of size {_text(size)} and stride {_text(stride)} at {offset} needs {(last + 1) * width} bytes of a "
                f"storage that has {storage.nbytes}",
            )
        budget.take(max(0, -(-elements // packed) * width - storage.nbytes), f"a tensor of size {_text(size)}")
    elif prod(max(n, 1) for n in size) > LARGEST:
        raise RefusedError("tensor", f"a tensor has the size {_text(size)}, which nothing can count")
    return TensorPlan("strided", dtype, size, stride, offset, storage, **more)


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size[:8])) or "()"


def _dtype(value: Any) -> str:
    found = dtype_of(value.name) if isinstance(value, Name) and value.module == "torch" else None
    if found is None:
        raise RefusedError("tensor", f"the dtype of a tensor is {described(value)}")
    return found


def _flags(metadata: Any) -> tuple[str, ...]:
    if not metadata:
        return ()
    if not isinstance(metadata, dict) or not set(metadata) <= {"conj", "neg"}:
        raise RefusedError("tensor", "a tensor has attributes other than conj and neg")
    return tuple(name for name, on in metadata.items() if on)


def _tensor(args: Args, budget: Budget) -> TensorPlan:
    storage, offset, size, stride, *_ = args
    return strided(storage, offset, size, stride, budget)


def _tensor_v2(args: Args, budget: Budget) -> TensorPlan:
    storage, offset, size, stride, requires_grad, _hooks, *metadata = args
    flags = _flags(metadata[0] if metadata else None)
    return strided(storage, offset, size, stride, budget, flags=flags, requires_grad=bool(requires_grad))


def _tensor_v3(args: Args, budget: Budget) -> TensorPlan:
    storage, offset, size, stride, requires_grad, _hooks, dtype, *metadata = args
    flags = _flags(metadata[0] if metadata else None)
    own = _dtype(dtype)
    return strided(storage, offset, size, stride, budget, dtype=own, flags=flags, requires_grad=bool(requires_grad))


def _parameter(args: Args, budget: Budget) -> Any:
    source, *rest = args
    data = tensor_in(source)
    if data is None:
        raise RefusedError("tensor", f"a parameter is made of {described(source)}, not of a tensor")
    if data.kind != "strided":
        return data
    requires_grad = bool(rest[0]) if rest else True
    return TensorPlan(
        data.kind,
        data.dtype,
        data.size,
        data.stride,
        data.offset,
        data.storage,
        data.parts,
        data.flags,
        True,
        requires_grad,
    )


def _quantized(args: Args, budget: Budget) -> TensorPlan:
    storage, offset, size, stride, quantizer, *_ = args
    plan = strided(storage, offset, size, stride, budget)
    scheme = quantizer[0].name if isinstance(quantizer, tuple) and quantizer and isinstance(quantizer[0], Name) else ""
    if not plan.dtype.startswith(("qint", "quint")):
        raise RefusedError("tensor", f"a quantized tensor has a storage of {plan.dtype}")
    if scheme == "per_tensor_affine" and len(quantizer) == 3:
        good = type(quantizer[1]) in (int, float) and type(quantizer[2]) is int
    elif scheme in ("per_channel_affine", "per_channel_affine_float_qparams") and len(quantizer) == 4:
        axis = quantizer[3]
        good = type(axis) is int and 0 <= axis < len(plan.size)
        good = good and all(isinstance(p, TensorPlan) and p.size == (plan.size[axis],) for p in quantizer[1:3])
    else:
        good = False
    if not good:
        raise RefusedError("tensor", f"the quantizer {scheme or 'of a tensor'} does not fit the tensor")
    return TensorPlan(
        "quantized", plan.dtype, plan.size, plan.stride, plan.offset, plan.storage, (scheme, *quantizer[1:])
    )


def _sparse(args: Args, budget: Budget) -> Any:
    layout, data, *_ = args
    layout = layout.args[0] if isinstance(layout, Made) and layout.of.name == "_get_layout" and layout.args else layout
    name = layout.name if isinstance(layout, Name) else str(layout).removeprefix("torch.")
    coo = name == "sparse_coo"
    if not isinstance(data, tuple) or name not in (
        "sparse_coo",
        "sparse_csr",
        "sparse_csc",
        "sparse_bsr",
        "sparse_bsc",
    ):
        raise RefusedError("tensor", f"a sparse tensor has the layout {described(layout)}")
    parts, size = (data[:2], data[2:3]) if coo else (data[:3], data[3:4])
    if not all(isinstance(part, TensorPlan) and part.kind == "strided" for part in parts) or not size:
        raise RefusedError("tensor", "a sparse tensor is not made of tensors and a size")
    whole = sizes(size[0], "size")
    if prod(max(n, 1) for n in whole) > LARGEST:
        raise RefusedError("tensor", f"a sparse tensor has the size {_text(whole)}, which nothing can count")
    return TensorPlan("sparse", parts[-1].dtype, whole, parts=(name, *parts))


def _meta(args: Args, budget: Budget) -> TensorPlan:
    dtype, size, stride, *_ = args
    size, stride = sizes(size, "size"), sizes(stride, "stride")
    if len(size) != len(stride) or prod(max(n, 1) for n in size) > LARGEST or max(stride, default=0) > LARGEST:
        raise RefusedError("tensor", "size and stride of a tensor without storage do not fit together")
    return TensorPlan("meta", _dtype(dtype), size, stride)


def _of_a_type(args: Args, budget: Budget) -> Any:
    rebuild, _kind, inner, *_state = args
    if not isinstance(rebuild, Name) or rebuild.name not in _CALLS or not isinstance(inner, tuple):
        raise RefusedError("tensor", f"a tensor is made by {described(rebuild)}")
    return tensor_made_by(rebuild, inner, budget)


def _copy(args: Args, budget: Budget) -> Any:
    return args[0]


_CALLS: dict[str, Callable[[Args, Budget], Any]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor_v2,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "Parameter": _parameter,
    "Buffer": _copy,
    "_rebuild_qtensor": _quantized,
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_meta_tensor_no_storage": _meta,
    "_rebuild_device_tensor_from_numpy": _copy,
    "_rebuild_device_tensor_from_cpu_tensor": _copy,
    "_rebuild_from_type_v2": _of_a_type,
}


def tensor_made_by(name: Name, args: Args, budget: Budget) -> Any:
    """What a call of one of torch's functions for tensors describes.

    Raises:
        RefusedError: Its arguments do not describe a tensor of this file.
    """
    call = _CALLS.get(name.name)
    if (
        call is None
    ):  # a class of tensors, given its storage afterwards; or a nested tensor, which no layer has as a weight
        return Made(name, args)
    try:
        return call(args, budget)
    except (ValueError, TypeError, IndexError) as error:
        raise RefusedError("tensor", f"{name} is called with {len(args)} arguments that do not fit it") from error


def rebuilt(state: Any, budget: Budget) -> Any:
    """The tensor that ``state`` describes, as tensors of the oldest checkpoints get theirs; any other state as it is.

    Raises:
        RefusedError: It reaches beyond its storage.
    """
    if isinstance(state, tuple) and len(state) == 4 and isinstance(state[0], Storage):
        storage, offset, size, stride = state
        return strided(storage, offset, size, stride, budget)
    return state


def tensor_in(value: Any) -> TensorPlan | None:
    """The tensor that a value is, or was given as its state; None if it is no tensor."""
    inside = value.state if isinstance(value, Made) and kind_of(value.of) == "tensor" else value
    return inside if isinstance(inside, TensorPlan) else None
