"""Functions of a copied model that are bound to its modules: lambdas, nested functions, default arguments, weak references.

``copy.deepcopy`` takes functions and weak references as they are, so that those of a copy would still call the original.
"""

from __future__ import annotations

import copy
import types
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from saconv_surgeon.models.tree.reachable import Reached, cell_contents, reached_from

Memo = dict[int, Any]


class Rebound:
    """New functions for those that lead to a module of ``model``; :meth:`fill` binds them to the copies."""

    def __init__(self, model: nn.Module) -> None:
        reached = reached_from(model)
        self.leading = reached.leading_to(_own(reached))
        self.functions = [f for f in reached.functions() if id(f) in self.leading]
        self.references = [r for r in reached.objects.values() if type(r) is weakref.ref and id(r) in self.leading]
        self.modules = reached.modules()
        self.cells: dict[int, tuple[types.CellType, types.CellType]] = {}
        self.made = {id(f): self._shell(f) for f in self.functions}

    def _shell(self, function: types.FunctionType) -> types.FunctionType:
        """The same code, with variables that are not set yet in place of those that lead to a module."""
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells or None)
        made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
        return made

    def _cell(self, cell: types.CellType) -> types.CellType:
        if id(cell_contents(cell)) not in self.leading:
            return cell
        return self.cells.setdefault(id(cell), (cell, types.CellType()))[1]

    def fill(self, memo: Memo) -> None:
        """Once the model has been copied with ``memo``, in which the new functions were: gives them what belongs to the copy."""
        references = {id(r): weakref.ref(memo[id(r())]) for r in self.references if id(r()) in memo}
        memo |= references
        for old, new in self.cells.values():
            new.cell_contents = self._copied(cell_contents(old), memo)
        for function in self.functions:
            made = self.made[id(function)]
            if function.__defaults__ is not None:
                made.__defaults__ = tuple(self._copied(value, memo) for value in function.__defaults__)
            if function.__kwdefaults__ is not None:
                made.__kwdefaults__ = {k: self._copied(value, memo) for k, value in function.__kwdefaults__.items()}
            made.__dict__.update({name: self._copied(value, memo) for name, value in vars(function).items()})
        replaced: dict[int, Any] = {**references, **self.made}
        for module in self.modules:
            copied = memo.get(id(module))
            if replaced and isinstance(copied, nn.Module) and copied is not module:
                self._fill_module(module, copied, replaced)

    def _fill_module(self, module: nn.Module, copied: nn.Module, replaced: Mapping[int, Any]) -> None:
        """Attributes of a module, and what lies in a list or a dict there."""
        compiled = vars(module).get("_compiled_call_impl")
        if id(compiled) in self.made:  # a module does not copy the code that was compiled for it
            vars(copied)["_compiled_call_impl"] = self.made[id(compiled)]
        for holder in [vars(copied), *vars(copied).values()]:
            if isinstance(holder, (dict, list)):
                for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
                    if id(value) in replaced:
                        holder[key] = replaced[id(value)]
                    elif type(value) is types.MethodType and id(value.__func__) in self.made:
                        holder[key] = types.MethodType(self.made[id(value.__func__)], value.__self__)

    def _copied(self, value: Any, memo: Memo) -> Any:
        if id(value) not in self.leading:
            return value
        known = dict(memo)
        try:
            return copy.deepcopy(value, memo)
        except Exception:  # what cannot be copied stays: a run of the copy shows whether that matters
            memo.clear()  # of halves
            memo.update(known)
            return value


def _own(reached: Reached) -> set[int]:
    tensors: Iterable[Any] = (
        t for m in reached.modules() for t in (*m.parameters(recurse=False), *m.buffers(recurse=False))
    )
    return {id(module) for module in reached.modules()} | {id(t) for t in tensors}
