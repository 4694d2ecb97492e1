"""What modules hold in their attributes besides tensors and modules: containers, plain objects, random generators."""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saconv_surgeon.models.tree.reachable import ATOMS, OPAQUE, slots_of

CONTAINERS = (dict, list, set, deque)
CODE = (types.FunctionType, types.MethodType, types.CodeType, nn.Module, torch.nn.parameter.Parameter)
OWN = "saconv_surgeon."
MOST_OBJECTS = 5_000
"""Objects that are looked into: a trainer that a model holds may lead to everything else in the process."""
MOST_ELEMENTS = 2**26
"""Elements, all together, of arrays and of tensors in objects that are kept: they may be data sets."""
ABSENT = object()


class Content:
    """What a dict, list, set or deque holds."""

    def __init__(self, container: Any) -> None:
        self.container, self.is_dict = container, isinstance(container, dict)
        self.content = list(container.items()) if self.is_dict else list(container)
        self.ids = self._ids()

    def _ids(self) -> list[Any]:
        return [*self.container, *map(id, self.container.values())] if self.is_dict else list(map(id, self.container))

    def put_back(self) -> None:
        """In place, if it holds anything else or in another order."""
        if self._ids() == self.ids:
            return
        self.container.clear()
        if self.is_dict:  # one by one: a Counter adds what update() is given
            for key, value in self.content:
                self.container[key] = value
        else:
            (self.container.update if isinstance(self.container, set) else self.container.extend)(self.content)


class _Attributes:
    """What the attributes of an object are."""

    def __init__(self, held: Any) -> None:
        self.held = held
        self.values = dict(getattr(held, "__dict__", {}))
        self.slots = {name: getattr(held, name, ABSENT) for name in slots_of(type(held)) if name[:2] != "__"}

    def put_back(self) -> None:
        """Only those that are others now: other threads may use the object."""
        now: dict[str, Any] = getattr(self.held, "__dict__", {})
        for name in [name for name in now if name not in self.values]:
            del now[name]
        for name, value in self.values.items():
            if now.get(name, ABSENT) is not value:
                now[name] = value
        for name, value in self.slots.items():
            found = getattr(self.held, name, ABSENT)
            if found is not value and value is ABSENT:
                object.__delattr__(self.held, name)
            elif found is not value:
                object.__setattr__(self.held, name, value)


class HeldValues:
    """The state of everything that is added, until it is put back. ``keep_tensor`` is called with the tensors that are met."""

    def __init__(self, keep_tensor: Callable[[Tensor], None]) -> None:
        self.keep_tensor = keep_tensor
        self.empty: list[Any] = []
        self.kept: list[Content | _Attributes] = []
        self.undo: list[Callable[[], object]] = []
        self.seen: dict[int, Any] = {}
        self.objects = self.elements = 0

    def add(self, value: Any) -> None:
        """``value`` and, if it is a container or a plain object, everything in it."""
        pending = [(value, False)]
        while pending:
            held, in_object = pending.pop()
            if isinstance(held, Tensor):
                self._add_tensor(held, in_object)
            elif isinstance(held, (ATOMS, CODE)) or id(held) in self.seen:
                continue
            elif isinstance(held, (CONTAINERS, tuple)):
                pending += [(child, in_object) for child in self._children(held)]
            else:
                pending += [(child, True) for child in self._inside(held)]

    def put_back(self) -> None:
        """Everything, in place."""
        for container in self.empty:
            if container:
                container.clear()
        for kept in self.kept:
            kept.put_back()
        for undo in self.undo:
            undo()

    def _add_tensor(self, tensor: Tensor, in_object: bool) -> None:
        if isinstance(tensor, nn.Parameter):
            return
        if in_object:
            if tensor.is_nested or self.elements + tensor.numel() > MOST_ELEMENTS:
                return
            self.elements += tensor.numel()
        self.keep_tensor(tensor)

    def _children(self, container: Any) -> list[Any]:
        if not container:
            if not isinstance(container, tuple):
                self.empty.append(container)
            return []
        self.seen[id(container)] = container
        if not isinstance(container, tuple):
            self.kept.append(Content(container))
        return list(container.values() if isinstance(container, dict) else container)

    def _inside(self, held: Any) -> Iterator[Any]:
        if self.objects >= MOST_OBJECTS:
            return
        self.objects += 1
        self.seen[id(held)] = held
        if isinstance(held, np.ndarray):
            self._add_array(held)
        elif isinstance(held, torch.Generator):
            state = held.get_state()
            self.undo.append(lambda: held.set_state(state))
        elif isinstance(held, random.Random):
            drawn = held.getstate()
            self.undo.append(lambda: held.setstate(drawn))
        elif isinstance(held, np.random.Generator):
            bits, known = held.bit_generator, held.bit_generator.state
            self.undo.append(lambda: setattr(bits, "state", known))
        elif not f"{type(held).__module__}.".startswith((*OPAQUE, OWN)):
            attributes = _Attributes(held)
            self.kept.append(attributes)
            yield from attributes.values.values()
            yield from attributes.slots.values()

    def _add_array(self, array: np.ndarray) -> None:
        if self.elements + array.size > MOST_ELEMENTS or not array.flags.writeable or array.dtype.hasobject:
            return
        self.elements += array.size
        before = array.copy()

        def undo() -> None:
            if array.shape == before.shape and array.tobytes() != before.tobytes():
                array[...] = before

        self.undo.append(undo)
