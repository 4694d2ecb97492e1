"""Follows the instructions of a pickle, those of every protocol, as Python's own machine would.

They work on a stack of plain values, so that what a name or an argument is does not depend on how the file hides it.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from saconv_surgeon.models.pickles import budget as limits
from saconv_surgeon.models.pickles.calls import check_key
from saconv_surgeon.models.pickles.machine import Machine
from saconv_surgeon.models.pickles.stand_ins import Made, RefusedError, described

VALUES = frozenset(
    "INT BININT BININT1 BININT2 LONG STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT".split()
)
"""Instructions whose argument is the value itself."""
CONSTANTS: Mapping[str, Any] = MappingProxyType({"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()})


def value_of_pickle(machine: Machine, stream: Any) -> Any:
    """The value of the pickle that begins at the place of ``stream``, bytes or a file.

    Raises:
        RefusedError: It does what no checkpoint does, or ends early. ``machine.findings`` has what was found before.
    """
    try:
        _follow(machine, stream)
        return machine.pop()
    except (IndexError, KeyError) as error:
        raise RefusedError("damaged", "the pickle takes something that it did not put there") from error
    except (ValueError, OverflowError, struct.error, EOFError) as error:
        raise RefusedError("damaged", f"the pickle ends early or is damaged ({str(error)[:80]})") from error


def _follow(machine: Machine, stream: Any) -> None:
    most, stack = limits.MOST_INSTRUCTIONS, machine.stack
    operations: Iterable[tuple[Any, Any, Any]] = pickletools.genops(stream)
    for opcode, argument, position in operations:
        name = opcode.name
        machine.count += 1
        if name in VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            if argument > machine.count or argument < 0:
                machine.position = position
                raise RefusedError("limits", f"the pickle numbers what it keeps from {argument} on")
            machine.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(machine.memo[argument])
        elif name == "MARK":
            machine.metastack.append(stack)
            stack = machine.stack = []
        else:
            machine.position = position
            step = STEPS.get(name)
            if step is None:
                raise RefusedError("opcode", f"it has the instruction {name}, which no writer of checkpoints uses")
            step(machine, argument)
            stack = machine.stack
        if machine.count > most:
            raise RefusedError("limits", f"the pickle has more than {most} instructions")


def _global(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(machine.named(module, name))


def _stack_global(machine: Machine, argument: None) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(machine.named(module, name))


def _reduce(machine: Machine, argument: None) -> None:
    args, func = machine.pop(), machine.pop()
    machine.call(func, args)


def _new_with_keywords(machine: Machine, argument: None) -> None:
    keywords, args, cls = machine.pop(), machine.pop(), machine.pop()
    if type(keywords) is not dict or type(args) is not tuple:
        raise RefusedError("operation", f"it makes {described(cls)} with {described(args)} and {described(keywords)}")
    machine.call(cls, (*args, *keywords.values()))


def _inst(machine: Machine, argument: str) -> None:
    args = machine.pop_mark()
    module, _, name = argument.partition(" ")
    machine.call(machine.named(module, name), tuple(args))


def _obj(machine: Machine, argument: None) -> None:
    cls, *args = machine.pop_mark()
    machine.call(cls, tuple(args))


def _pop(machine: Machine, argument: None) -> None:
    if machine.stack:
        machine.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine, argument: None) -> None:
    machine.pop_mark()


def _put_new(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(make())


def _integer(machine: Machine, argument: int) -> None:
    if argument.bit_length() > 8 * limits.LONGEST_INTEGER:
        raise RefusedError("limits", f"it has a number of {argument.bit_length()} bits")
    machine.stack.append(argument)


def _tuple_of(count: int) -> Callable[[Machine, Any], None]:
    def step(machine: Machine, argument: None) -> None:
        items = [machine.pop() for _ in range(count)][::-1]
        machine.stack.append(machine.tuple_of(items))

    return step


def _dict_of_items(machine: Machine, argument: None) -> None:
    items = machine.pop_mark()
    machine.stack.append({})
    machine.set_items(items)


def _set_item(machine: Machine, argument: None) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _add_items(machine: Machine, argument: None) -> None:
    items = machine.pop_mark()
    target = machine.stack[-1]
    if isinstance(target, Made):
        target.elements.extend(items)
        return
    if type(target) is not set:
        raise RefusedError("operation", f"it adds to {described(target)}, which is not a set")
    for item in items:
        check_key(item)
    target.update(items)


def _frozenset(machine: Machine, argument: None) -> None:
    items = machine.pop_mark()
    for item in items:
        check_key(item)
    machine.stack.append(frozenset(items))


def _memoize(machine: Machine, argument: None) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


STEPS: Mapping[str, Callable[[Machine, Any], None]] = MappingProxyType(
    {
        **{name: _put_new(lambda value=value: value) for name, value in CONSTANTS.items()},  # type: ignore[misc]
        "EMPTY_LIST": _put_new(list),
        "EMPTY_DICT": _put_new(dict),
        "EMPTY_SET": _put_new(set),
        "PROTO": lambda machine, _: None,
        "FRAME": lambda machine, _: None,
        "STOP": lambda machine, _: None,
        "LONG1": _integer,
        "LONG4": _integer,
        "GLOBAL": _global,
        "STACK_GLOBAL": _stack_global,
        "INST": _inst,
        "REDUCE": _reduce,
        "NEWOBJ": _reduce,
        "NEWOBJ_EX": _new_with_keywords,
        "OBJ": _obj,
        "POP": _pop,
        "POP_MARK": _pop_mark,
        "MEMOIZE": _memoize,
        "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
        "TUPLE": lambda machine, _: _to_stack(machine, machine.tuple_of(machine.pop_mark())),
        "TUPLE1": _tuple_of(1),
        "TUPLE2": _tuple_of(2),
        "TUPLE3": _tuple_of(3),
        "LIST": lambda machine, _: _to_stack(machine, machine.pop_mark()),
        "DICT": _dict_of_items,
        "SETITEM": _set_item,
        "ADDITEMS": _add_items,
        "FROZENSET": _frozenset,
        "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
        "APPEND": lambda machine, _: machine.append([machine.pop()]),
        "APPENDS": lambda machine, _: machine.append(machine.pop_mark()),
        "BUILD": lambda machine, _: machine.build(machine.pop()),
        "BINPERSID": lambda machine, _: machine.refer(machine.pop()),
    }
)
"""All instructions but those of :func:`_follow`, and those that no checkpoint has: extension codes, persistent ids as
text, buffers from elsewhere."""


def _to_stack(machine: Machine, value: Any) -> None:
    machine.stack.append(value)
