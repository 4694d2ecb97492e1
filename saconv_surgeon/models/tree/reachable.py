"""What a module holds besides its children: through lists, closures, partial functions, bound methods, weak references, objects.

Such modules are run with the model, although ``modules()`` does not give them.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOST = 200_000
"""Objects that are looked at: a trainer that a model holds may lead to everything else in the process."""
ATOMS = (str, bytes, bool, int, float, complex, type(None), type, types.ModuleType, types.BuiltinFunctionType, Tensor)
QUICK = frozenset({bool, int, float, str, type(None), torch.dtype, torch.device})
"""The most frequent of them, by exact type."""
PLAIN = frozenset({tuple, list, set})
OPAQUE = ("torch.", "numpy.", "logging.", "threading.", "concurrent.", "multiprocessing.")
"""Beginnings of the names of packages whose objects hold no modules of a model."""


@dataclasses.dataclass
class Reached:
    """Everything that a model leads to. ``holders`` has, by ``id``, the objects that hold an object themselves."""

    objects: dict[int, Any]
    holders: dict[int, list[int]]

    def modules(self) -> list[nn.Module]:
        """Modules, those of the tree first."""
        return [value for value in self.objects.values() if isinstance(value, nn.Module)]

    def functions(self) -> list[types.FunctionType]:
        """Functions written in Python."""
        return [value for value in self.objects.values() if isinstance(value, types.FunctionType)]

    def leading_to(self, targets: set[int]) -> set[int]:
        """The ids of everything that leads to one of ``targets``, themselves among them."""
        found, pending = set(targets), list(targets)
        while pending:
            for holder in self.holders.get(pending.pop(), ()):
                if holder not in found:
                    found.add(holder)
                    pending.append(holder)
        return found


def reached_from(model: nn.Module) -> Reached:
    """Everything that ``model`` leads to, up to a limit; tensors are noted and not looked into."""
    reached = Reached({id(m): m for m in model.modules()}, {})
    pending: list[Any] = list(reached.objects.values())
    while pending and len(reached.objects) < MOST:
        holder = pending.pop()
        for child in children_of(holder):
            if type(child) in QUICK or (isinstance(child, ATOMS) and not isinstance(child, Tensor)):
                continue
            reached.holders.setdefault(id(child), []).append(id(holder))
            if id(child) not in reached.objects:
                reached.objects[id(child)] = child
                if not isinstance(child, Tensor):
                    pending.append(child)
    return reached


def reachable_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of the tree of ``model``, then those that it holds in other ways, or its code by global variables."""
    tree = list(model.modules())
    if any(map(_holds_more, tree)):
        reached = reached_from(model)
        modules, functions = reached.modules(), reached.functions()
    else:  # nearly always, and much quicker
        modules, functions = tree, []
    found = {id(module): module for module in modules}
    codes = [*functions, *{type(m).__dict__.get("forward") for m in modules}]
    for function in codes:
        if isinstance(function, types.FunctionType):
            named = (function.__globals__.get(name) for name in function.__code__.co_names)
            for part in (p for module in named if isinstance(module, nn.Module) for p in module.modules()):
                found.setdefault(id(part), part)
    return list(found.values())


TREE = frozenset({"_parameters", "_buffers", "_modules"})


def _holds_more(module: nn.Module) -> bool:
    """Whether a module has attributes that may lead to modules which ``modules()`` does not give."""
    if isinstance(module, torch.jit.ScriptModule):
        return False
    for name, value in vars(module).items():
        kind = type(value)
        if kind in QUICK or name in TREE or (kind in PLAIN and all(type(item) in QUICK for item in value)):
            continue
        if (kind is dict or kind is OrderedDict) and not value:
            continue
        if not isinstance(value, ATOMS):
            return True
    return False


def children_of(value: Any) -> Iterator[Any]:
    """What ``value`` itself holds, as far as a model may call it."""
    if isinstance(value, nn.Module):
        yield from _of_module(value)
    elif isinstance(value, types.FunctionType):
        yield from (cell_contents(cell) for cell in value.__closure__ or ())
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield from vars(value).values()
    elif isinstance(value, types.MethodType):
        yield value.__self__
        yield value.__func__
    elif isinstance(value, functools.partial):
        yield value.func
        yield from value.args
        yield from value.keywords.values()
    elif isinstance(value, weakref.ref):
        yield value()
    elif isinstance(value, (Mapping, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)):
        yield from list(value.values())
        yield from (key for key in list(value) if not isinstance(key, ATOMS))
    elif isinstance(value, (list, tuple, set, frozenset, deque, weakref.WeakSet)):
        yield from list(value)
    elif not type(value).__module__.startswith(OPAQUE) and hasattr(type(value), "__dict__"):
        yield from list(getattr(value, "__dict__", {}).values())
        yield from (getattr(value, name, None) for name in slots_of(type(value)))


def cell_contents(cell: types.CellType) -> Any:
    """What a variable of a closure holds; None if it has not been set."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _of_module(module: nn.Module) -> Iterator[Any]:
    if isinstance(module, torch.jit.ScriptModule):
        yield from module.children()
        return
    for value in vars(module).values():
        if type(value) is dict or type(value) is OrderedDict:
            if value:
                yield from value.values()
        elif type(value) not in QUICK:
            yield value


def slots_of(kind: type) -> Iterator[str]:
    """The names in the ``__slots__`` of a class and those that it inherits from."""
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
