"""The dtypes of torch and numpy by the names that pickles give them, with their sizes. Imports no torch."""

from __future__ import annotations

DTYPE_BYTES = {
    **dict.fromkeys(("uint8", "int8", "bool", "quint8", "qint8", "bits8", "bits1x8", "bits2x4", "bits4x2"), 1),
    **{f"float8_{kind}": 1 for kind in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")},
    **dict.fromkeys(("float4_e2m1fn_x2", "quint4x2", "quint2x4"), 1),
    **{f"{sign}int{bits}": 1 for sign in ("", "u") for bits in range(1, 8)},
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32", "qint32", "complex32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    "complex128": 16,
}
"""Bytes of an element, by the name of the dtype in ``torch``."""
ELEMENTS_IN_ONE_BYTE = {"quint4x2": 2, "quint2x4": 4}
ALIASES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "cfloat": "complex64",
    "cdouble": "complex128",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "chalf": "complex32",
}
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QUInt8Storage": "quint8",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
}
"""The dtype of each kind of storage."""
ARRAYS = {
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
    "c8": "complex64",
    "c16": "complex128",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "u1": "uint8",
    "b1": "bool",
}
"""The dtypes of numpy that torch has too."""


def dtype_of(name: str) -> str | None:
    """The dtype that ``torch`` has under a name, in its own name; None if there is none."""
    name = ALIASES.get(name, name)
    return name if name in DTYPE_BYTES else None
