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


@cache
def reads_values(code: CodeType, at: int) -> bool:
    """Whether ``code`` does more with the tensor that its instruction at offset ``at`` reads than to ask for its metadata.

    Of a tensor that is stored in a variable, what is done with that first.
    """
    following = iter([each for each in dis.get_instructions(code) if each.offset > at])
    first = next(following, None)
    if first is not None and first.opname.startswith("STORE_"):
        loaded = any(each.opname.startswith("LOAD_") and each.argval == first.argval for each in following)
        first = next(following, None) if loaded else None
    return first is None or first.argval not in METADATA
