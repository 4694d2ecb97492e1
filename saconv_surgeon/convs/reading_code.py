"""What code does with an attribute that it has just read, by its bytecode."""

from __future__ import annotations

import dis
from functools import cache
from types import CodeType

METADATA = frozenset(
    "shape size ndim dim numel nelement stride dtype device layout is_cuda is_meta is_contiguous is_floating_point get_device "
    "element_size requires_grad requires_grad_ grad grad_fn is_leaf data_ptr type register_hook".split()
)
"""What a tensor says or does without its values."""
COLLECTING = ("LIST_APPEND", "SET_ADD", "YIELD_VALUE", "RETURN_VALUE")
"""Handing the tensor on, as parameter groups are made."""


@cache
def reads_values(code: CodeType, at: int) -> bool:
    """Whether ``code`` does more with the tensor that its instruction at offset ``at`` reads than to ask for its metadata.

    Asking whether there is one, setting a flag and collecting it are no reading. Of a tensor that is stored in a variable, it is
    what is done with that first.
    """
    instructions = [each for each in dis.get_instructions(code) if each.opname not in ("CACHE", "NOP", "PRECALL")]
    before = [each.argval for each in instructions if each.offset < at][-4:]
    if "hasattr" in before or "isinstance" in before:
        return False
    after = [each for each in instructions if each.offset > at]
    if after and after[0].opname in ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF"):
        name = after[0].argval
        uses = [i + 1 for i, each in enumerate(after) if each.opname.startswith("LOAD_") and each.argval == name]
        return next((_values(after[i:]) for i in uses if not _asks_for_none(after[i:])), True)
    return not _asks_for_none(after) and _values(after)


def _values(after: list[dis.Instruction]) -> bool:
    return not after or not (after[0].argval in METADATA or after[0].opname in COLLECTING)


def _asks_for_none(after: list[dis.Instruction]) -> bool:
    """Whether the tensor is only compared with None, or with nothing."""
    if (after and "JUMP_IF" in after[0].opname) or (after and after[0].opname in ("TO_BOOL", "UNARY_NOT")):
        return True
    return len(after) > 1 and after[0].opname == "LOAD_CONST" and after[0].argval is None and after[1].opname == "IS_OP"
