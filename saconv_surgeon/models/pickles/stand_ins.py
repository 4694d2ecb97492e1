"""What stands for the objects of a pickle: plain descriptions, none of which is the object itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saconv_surgeon.records.safety import Finding
from saconv_surgeon.report.human import visible


class RefusedError(Exception):
    """Something in a file that is refused at once, since what follows it has no meaning."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule, self.message = rule, message
        self.entry = ""
        self.offset: int | None = None

    def at(self, entry: str, offset: int) -> RefusedError:
        """The same, with its place."""
        self.entry, self.offset = entry, offset
        return self

    @property
    def finding(self) -> Finding:
        """As it is reported."""
        return Finding(self.rule, self.message, self.entry, self.offset)


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that a pickle names. It is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return shown(f"{self.module}.{self.name}")


@dataclass(eq=False, slots=True)
class Storage:
    """Bytes of a tensor: ``nbytes`` from ``start`` on, in the entry ``key`` of the file."""

    key: str
    dtype: str
    nbytes: int
    start: int = 0


@dataclass(eq=False, slots=True)
class TensorPlan:
    """A tensor that can be made: of a storage, of parts (sparse, quantized), or of a size alone (meta).

    ``size`` and ``stride`` are in elements, as torch has them. ``parts`` are what a layout or a quantizer needs besides.
    """

    kind: str
    dtype: str
    size: tuple[int, ...]
    stride: tuple[int, ...] = ()
    offset: int = 0
    storage: Storage | None = None
    parts: tuple[Any, ...] = ()
    flags: tuple[str, ...] = ()
    parameter: bool = False
    requires_grad: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """As a tensor has it."""
        return self.size


@dataclass(eq=False, slots=True, repr=False)
class Made:
    """What a pickle makes by a call that is not made here: a setting, an array, a model.

    ``items`` and ``elements`` are what the pickle goes on to fill it with.
    """

    of: Name
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<{self.of}>"

    @property
    def called(self) -> str:
        """The name of its class."""
        return shown(self.of.name)


def shown(text: str, most: int = 120) -> str:
    """Text of a file as it can be shown: without control characters, and not longer than ``most`` characters."""
    return visible(text[:most]) + ("…" if len(text) > most else "")


def described(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, Name):
        return f"the name {value}"
    if isinstance(value, Made):
        return f"what {value.of} makes"
    kinds = {TensorPlan: "a tensor", Storage: "a storage"}
    return kinds.get(type(value)) or f"a value of type {type(value).__name__}"
