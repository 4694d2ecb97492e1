"""Which parameters are written to, and their values before: kept only if that happens, since parameters need the memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from saconv_surgeon.models.tree.reachable import reachable_modules

WRITTEN: weakref.WeakKeyDictionary[nn.Module, dict[str, frozenset[str]]] = weakref.WeakKeyDictionary()
"""Of models that were run: by mode, the names of the parameters that the run was seen to write to."""


class Writes(TorchDispatchMode):
    """Inside, every parameter is copied before it is first written to in place, also through ``.data``."""

    supports_higher_order_operators = True

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.owners: dict[int, list[nn.Parameter]] = {}
        for parameter in parameters:
            key = storage_of(parameter)
            if key is not None:
                self.owners.setdefault(key, []).append(parameter)
        self.before: dict[int, tuple[nn.Parameter, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = getattr(func, "_schema", None)
        if schema is not None and schema.is_mutable:
            for i, argument in enumerate(schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    given = args[i] if i < len(args) else kwargs.get(argument.name)
                    for written in pytree.tree_leaves(given):
                        self._keep(written)
        return func(*args, **kwargs)

    def _keep(self, written: Any) -> None:
        key = storage_of(written) if isinstance(written, Tensor) else None
        for parameter in self.owners.get(key, ()) if key is not None else ():
            if id(parameter) not in self.before:
                self.before[id(parameter)] = parameter, parameter.detach().clone()


def storage_of(t: Tensor) -> int | None:
    """What tells the memory of ``t`` from that of others; None if it has none of its own."""
    if t.layout is not torch.strided or t.is_meta or nn.parameter.is_lazy(t):
        return None
    try:
        return t.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # wrappers around other tensors
        return None


def restore_values(before: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Gives each tensor the value that it had. Its version is not counted up: a graph that uses it is still right."""
    for tensor, value in before:
        tensor.data.copy_(value)


@contextmanager
def observed_writes(model: nn.Module, mode: str) -> Iterator[None]:
    """Notes which parameters of ``model`` a run inside writes to, for :func:`written_by_runs`, and restores their values."""
    writes = Writes(model.parameters())
    try:
        with writes:
            yield
    finally:
        restore_values(writes.before.values())
        note_written(model, mode, set(writes.before))


def note_written(model: nn.Module, when: str, written: set[int]) -> None:
    """Adds the parameters with these ids to what is known of ``model``."""
    names = frozenset(name for name, p in model.named_parameters() if id(p) in written) if written else frozenset()
    known = WRITTEN.setdefault(model, {})
    known[when] = known.get(when, frozenset()) | names


def written_by_runs(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that runs of ``model``, or switching its mode, have been seen to write to."""
    names = frozenset().union(*WRITTEN.get(model, {}).values())
    return [p for name, p in model.named_parameters() if name in names] if names else []


def answers_switching(model: nn.Module) -> bool:
    """Whether some module of ``model`` has a ``train`` or ``eval`` of its own, which may do anything."""
    plain = nn.Module.train, nn.Module.eval
    return any(
        (type(m).train, type(m).eval) != plain or "train" in vars(m) or "eval" in vars(m)
        for m in reachable_modules(model)
        if not isinstance(m, torch.jit.ScriptModule)
    )
