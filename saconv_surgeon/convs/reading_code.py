"""What code does with an attribute that it has just read, by its bytecode."""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any, NamedTuple

METADATA = frozenset(
    "shape size ndim dim numel nelement stride dtype device layout is_cuda is_meta is_contiguous is_floating_point get_device "
    "element_size requires_grad requires_grad_ grad grad_fn is_leaf data_ptr type register_hook".split()
)
"""What a tensor says or does without its values."""
COLLECTING = ("LIST_APPEND", "SET_ADD", "YIELD_VALUE", "RETURN_VALUE")
"""Handing the tensor on, as parameter groups are made."""
TWO_AT_ONCE = re.compile(r"((?:LOAD|STORE)_FAST(?:_BORROW)?)_((?:LOAD|STORE)_FAST(?:_BORROW)?)")
"""Instructions on two variables."""


@cache
def reads_values(code: CodeType, at: int) -> bool:
    """Whether ``code`` does more with the tensor that its instruction at offset ``at`` reads than to ask for its metadata.

    Asking whether there is one, setting a flag and collecting it are no reading. Of a tensor that is stored in a variable, it is
    what is done with that first.
    """
    instructions = [each for each in _steps(code) if each.opname not in ("CACHE", "NOP", "PRECALL")]
    before = [each.argval for each in instructions if each.offset < at][-4:]
    if "hasattr" in before or "isinstance" in before:
        return False
    after = [each for each in instructions if each.offset > at]
    if after and after[0].opname in ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF"):
        name = after[0].argval
        uses = [i + 1 for i, each in enumerate(after) if each.opname.startswith("LOAD_") and each.argval == name]
        return next((_values(after[i:]) for i in uses if not _asks_for_none(after[i:])), True)
    return not _asks_for_none(after) and _values(after)


class _Step(NamedTuple):
    """An instruction that does one thing."""

    opname: str
    argval: Any
    offset: int


def _steps(code: CodeType) -> Iterator[_Step]:
    """The instructions of ``code``; those that do two things at once, as Python has them from 3.13 on, are two."""
    for each in dis.get_instructions(code):
        both = TWO_AT_ONCE.fullmatch(each.opname)
        if both is None or not isinstance(each.argval, tuple):
            yield _Step(each.opname, each.argval, each.offset)
        else:
            yield from (_Step(name, value, each.offset) for name, value in zip(both.groups(), each.argval, strict=True))


def _values(after: list[_Step]) -> bool:
    return not after or not (after[0].argval in METADATA or after[0].opname in COLLECTING)


def _asks_for_none(after: list[_Step]) -> bool:
    """Whether the tensor is only compared with None, or with nothing."""
    if (after and "JUMP_IF" in after[0].opname) or (after and after[0].opname in ("TO_BOOL", "UNARY_NOT")):
        return True
    return len(after) > 1 and after[0].opname == "LOAD_CONST" and after[0].argval is None and after[1].opname == "IS_OP"
