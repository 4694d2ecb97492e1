"""Records as plain dicts, and back."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from saconv_surgeon.errors import visible

R = TypeVar("R")
LARGEST = 10**30
NOT_PLAIN = re.compile(r"[^\n\x20-\x7e]")


def to_dict(record: Any) -> Any:
    """Plain dicts, lists, strings and numbers; figures that are not finite become None."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        items = {f.name: to_dict(getattr(record, f.name)) for f in dataclasses.fields(record)}
        return items | {name: getattr(record, name) for name in getattr(record, "IN_JSON", ())}
    if isinstance(record, Mapping):
        return {str(key): to_dict(value) for key, value in record.items()}
    if isinstance(record, (tuple, list)):
        return [to_dict(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record


def from_dict(cls: type[R], data: Any) -> R:
    """The record of type ``cls`` from which ``to_dict`` made ``data``; unknown fields are ignored.

    Raises:
        ValueError: A field is absent or has the wrong type; the message names it.
    """
    return typing.cast(R, _build(cls, data, cls.__name__))


def with_strings(record: Any, change: Callable[[str], str]) -> Any:
    """A copy of ``record``, of the same type, in which every string, however deep, is replaced by ``change(string)``."""
    if isinstance(record, str):
        return change(record)
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        values = {f.name: with_strings(getattr(record, f.name), change) for f in dataclasses.fields(record)}
        return dataclasses.replace(record, **values)
    if isinstance(record, Mapping):
        return {with_strings(key, change): with_strings(value, change) for key, value in record.items()}
    if isinstance(record, (tuple, list)):
        if record and type(record[0]) is float and all(type(value) is float for value in record):
            return record  # the row of a map: there are thousands
        return type(record)(with_strings(value, change) for value in record)
    return record


def json_escaped(text: str) -> str:
    """JSON text in which no character acts on a terminal: the escapes of JSON stand for what does not show."""
    if text.isascii() and "\x7f" not in text:
        return text
    return NOT_PLAIN.sub(lambda c: c[0] if visible(c[0]) == c[0] else _units_escaped(c[0]), text)


def _units_escaped(c: str) -> str:
    units = c.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For ``json.loads``: an object, checked for keys that it has twice.

    Raises:
        ValueError: It has one twice.
    """
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"it names {twice[0]!r} twice")
    return dict(pairs)


def _build(kind: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _build_record(kind, data, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments, data, where)
    if origin is Literal:
        return _expect(data in arguments, data, f"one of {', '.join(map(repr, arguments))}", where)
    if origin is tuple:
        _expect(isinstance(data, (list, tuple)), data, "a list", where)
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), data, "an object", where)
        return {key: _build(arguments[1], item, f"{where}[{key!r}]") for key, item in data.items()}
    if kind is Any:
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is int and isinstance(data, int) and abs(data) > LARGEST:
        raise ValueError(f"{where}: no figure is as large as that")
    wrong_bool = isinstance(data, bool) and kind is not bool
    return _expect(isinstance(data, kind) and not wrong_bool, data, getattr(kind, "__name__", str(kind)), where)


def _build_record(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, Mapping), data, "an object", where)
    hints = typing.get_type_hints(kind)
    values = {}
    for f in dataclasses.fields(kind):
        if f.name in data:
            values[f.name] = _build(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where}: no field {f.name!r}")
    return kind(**values)


def _build_union(choices: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in choices:
        return None
    error = None
    for choice in choices:
        if choice is not type(None):
            try:
                return _build(choice, data, where)
            except ValueError as failed:
                error = failed
    raise error or ValueError(f"{where}: no type to build")


def _expect(condition: bool, data: Any, wanted: str, where: str) -> Any:
    if not condition:
        raise ValueError(f"{where}: expected {wanted}, found {str(data)[:60]!r}")
    return data
