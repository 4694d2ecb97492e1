"""What the calls in a pickle come to: plain containers, descriptions of tensors, settings that are passed over."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from saconv_surgeon.models.pickles.budget import Budget
from saconv_surgeon.models.pickles.known_names import kind_of
from saconv_surgeon.models.pickles.stand_ins import Made, Name, RefusedError, TensorPlan, described, shown
from saconv_surgeon.models.pickles.tensor_checks import sizes, tensor_made_by

LATIN = ("latin1", "latin-1", "iso-8859-1", "ascii", "utf-8")
"""The encodings in which bytes are written as text; others can make much of little."""
PLAIN_KEYS = (str, int, float, bool, bytes, complex, type(None), Name, Made, TensorPlan)

LONGEST_KEY = 64
"""Parts of a tuple that is a key, those of tuples in it included; it is looked at each time that it is used."""


def called(func: Any, args: Any, budget: Budget) -> Any:
    """What a pickle makes by calling ``func``.

    Raises:
        RefusedError: It is not a name, or not one that can be called so.
    """
    if type(func) is not Name:
        raise RefusedError("operation", f"it calls {described(func)}, which is not a function that it names")
    if type(args) is not tuple:
        raise RefusedError("operation", f"it calls {func} with {described(args)}, not with a tuple")
    kind = kind_of(func)
    if kind == "tensor":
        return tensor_made_by(func, args, budget)
    if kind == "container":
        try:
            return _CONTAINERS[func.name](args, budget)
        except (TypeError, ValueError, IndexError, UnicodeError) as error:
            raise RefusedError("operation", f"{func} is called with arguments that do not fit it") from error
    if kind == "attribute":
        return _attribute(args)
    if kind in ("constant", "storage"):
        if func.module == "builtins" and len(args) == 1 and isinstance(args[0], (int, float, bool)):
            return args[0]
        raise RefusedError("operation", f"it calls {func}, which is not called in a checkpoint")
    return Made(func, args)


def check_key(key: Any) -> None:
    """Checks that something can be the key of a dict: without code of its own, and soon looked at.

    Raises:
        RefusedError: It cannot.
    """
    waiting = [key]
    for _ in range(LONGEST_KEY):
        part = waiting.pop()
        if isinstance(part, tuple) and len(part) <= LONGEST_KEY:
            waiting.extend(part)
        elif not isinstance(part, PLAIN_KEYS):
            break
        if not waiting:
            return
    raise RefusedError("operation", f"{described(key)} is the key of a dict")


def filled(pairs: Any) -> dict[Any, Any]:
    """A dict of pairs, or of another dict."""
    items = list(pairs.items()) if isinstance(pairs, dict) else [tuple(pair) for pair in pairs]
    for pair in items:
        if len(pair) != 2:
            raise ValueError(pair)
        check_key(pair[0])
    return dict(items)


def _attribute(args: tuple[Any, ...]) -> Any:
    """A member of a class of settings, as members of enums are written; what it is cannot be called."""
    of, *names = args
    if isinstance(of, Name) and kind_of(of) == "setting" and len(names) == 1:
        name = names[0]
        if isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w{0,80}", name):
            return Made(Name(of.module, f"{of.name}.{name}"))
    what = shown(str(names[0])) if names and isinstance(names[0], str) else "something"
    raise RefusedError("operation", f"it takes the attribute {what!r} of {described(of)}")


def _bytes(args: tuple[Any, ...], budget: Budget) -> Any:
    """The text or bytes that a call of ``_codecs.encode``, ``bytes`` or ``bytearray`` makes."""
    content, *rest = args or (b"",)
    encoding = rest[0] if rest else "utf-8"
    if isinstance(content, str) and len(rest) <= 1:
        if encoding not in LATIN:
            raise RefusedError("allocation", f"text is encoded as {described(encoding)}, which no checkpoint needs")
        content = content.encode(encoding)
    elif isinstance(content, list) and not rest and all(type(n) is int and 0 <= n < 256 for n in content):
        content = bytes(content)
    elif not isinstance(content, (bytes, bytearray)) or rest:
        what = "a number of bytes" if isinstance(content, int) else described(content)
        raise RefusedError("allocation", f"memory is asked for by {what}, not by its content")
    budget.take(len(content), "bytes in the pickle")
    return bytes(content)


def _elements(args: tuple[Any, ...], budget: Budget) -> list[Any]:
    """A list that is given with its elements at most."""
    if not args:
        return []
    source = args[0]
    if not isinstance(source, (list, tuple, dict, set, frozenset)):
        raise RefusedError("operation", f"a list is made of {described(source)}")
    budget.take(8 * len(source), "a list")
    return list(source)


def _set(args: tuple[Any, ...], budget: Budget) -> set[Any]:
    found = _elements(args, budget)
    for each in found:
        check_key(each)
    return set(found)


def _dict(args: tuple[Any, ...], budget: Budget) -> dict[Any, Any]:
    found = filled(args[0]) if args else {}
    budget.take(16 * len(found), "a dict")
    return found


def _default_dict(args: tuple[Any, ...], budget: Budget) -> dict[Any, Any]:
    """Without the function that makes its missing entries, which is never called."""
    return _dict(args[1:], budget)


def _reconstructed(args: tuple[Any, ...], budget: Budget) -> Any:
    of, base, state = args
    if not isinstance(of, Name) or not isinstance(base, Name) or base.module != "builtins":
        raise RefusedError("operation", f"it makes {described(of)} out of {described(base)}")
    made = Made(of, () if state is None else (state,))
    if isinstance(state, dict):
        budget.take(16 * len(state), "a dict")
        made.items = dict(state)
    return made


def _text(args: tuple[Any, ...], budget: Budget) -> str:
    if args and not isinstance(args[0], (str, int, float, bool)):
        raise RefusedError("operation", f"text is made of {described(args[0])}")
    return str(args[0])[:100] if args and not isinstance(args[0], str) else (args[0] if args else "")


def _as_it_is(of: str) -> Callable[[tuple[Any, ...], Budget], Any]:
    return lambda args, budget: Made(Name("builtins", of), args)


_CONTAINERS: dict[str, Callable[[tuple[Any, ...], Budget], Any]] = {
    "OrderedDict": _dict,
    "Counter": _dict,
    "dict": _dict,
    "defaultdict": _default_dict,
    "list": _elements,
    "deque": _elements,
    "tuple": lambda args, budget: tuple(_elements(args, budget)),
    "set": _set,
    "frozenset": lambda args, budget: frozenset(_set(args, budget)),
    "bytes": _bytes,
    "bytearray": _bytes,
    "encode": _bytes,
    "str": _text,
    "Size": lambda args, budget: sizes(args[0], "size") if args else (),
    "complex": lambda args, budget: complex(*args),
    "slice": _as_it_is("slice"),
    "range": _as_it_is("range"),
    "_reconstructor": _reconstructed,
}
