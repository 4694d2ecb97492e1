"""The machine that a pickle is a program of, with descriptions in the place of objects. Nothing is looked up or called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saconv_surgeon.models.pickles import budget as limits
from saconv_surgeon.models.pickles.budget import Budget
from saconv_surgeon.models.pickles.calls import called, check_key
from saconv_surgeon.models.pickles.known_names import kind_of, modern
from saconv_surgeon.models.pickles.stand_ins import Made, Name, RefusedError, Storage, described
from saconv_surgeon.models.pickles.tensor_checks import rebuilt
from saconv_surgeon.records.safety import Finding


class Machine:
    """The machine of one pickle.

    Args:
        stored: What a persistent id refers to.
        budget: The memory that the file may ask for.
        entry: The part of the file that holds the pickle, for findings.
    """

    def __init__(self, stored: Callable[[Any], Any], budget: Budget, entry: str = "") -> None:
        self.stored = stored
        self.budget = budget
        self.entry = entry
        self.stack: list[Any] = []
        self.metastack: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.wants: dict[str, int] = {}
        self.modules: dict[str, int] = {}
        self.findings: list[Finding] = []
        self.has_settings = False
        self.position = 0
        self.count = 0
        self._nested: dict[int, tuple[Any, int]] = {}

    def pop(self) -> Any:
        """The top of the stack."""
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """What was put on the stack after the last mark."""
        items = self.stack
        self.stack = self.metastack.pop()
        return items

    def named(self, module: Any, name: Any) -> Name:
        """A name, taken down; one that no checkpoint has is a finding."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("operation", f"the pickle names a function by {described(module)} and {described(name)}")
        found = modern(module, name)
        text = str(found)
        if text not in self.wants:
            self.wants[text] = self.position
            kind = kind_of(found)
            self.has_settings |= kind in ("setting", "attribute", "module")
            if kind == "module":
                self.modules[text] = self.position
            if kind is None:
                self.findings.append(Finding("code", f"it names {text}", self.entry, self.position))
        return found

    def call(self, func: Any, args: Any) -> None:
        """Puts what a call makes on the stack."""
        self.stack.append(called(func, args, self.budget))

    def tuple_of(self, items: list[Any]) -> tuple[Any, ...]:
        """A tuple; its nesting is counted, since tuples cannot be looked into step by step as lists can."""
        made = tuple(items)
        inside = [self._nested.get(id(item), (None, 1))[1] for item in made if type(item) is tuple]
        if inside:
            depth = 1 + max(inside)
            if depth > limits.MOST_NESTED:
                raise RefusedError("limits", f"tuples lie more than {limits.MOST_NESTED} deep in each other")
            self._nested[id(made)] = (made, depth)
        return made

    def set_items(self, items: list[Any]) -> None:
        """Keys and values in turn, into what is on top."""
        target = self.stack[-1]
        into = target.items if isinstance(target, Made) else target
        if type(into) is not dict:
            raise RefusedError("operation", f"it sets an item of {described(target)}, which is not a dict")
        if len(items) % 2:
            raise RefusedError("damaged", "a key has no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                check_key(key)
            into[key] = value

    def append(self, items: list[Any]) -> None:
        """Elements to what is on top."""
        target = self.stack[-1]
        into = target.elements if isinstance(target, Made) else target
        if type(into) is not list:
            raise RefusedError("operation", f"it appends to {described(target)}, which is not a list")
        into.extend(items)

    def build(self, state: Any) -> None:
        """Gives what is on top its attributes."""
        target = self.stack[-1]
        if isinstance(target, Made):
            target.state = rebuilt(state, self.budget)
        elif type(target) is dict and isinstance(state, dict):
            pass  # the attributes of an OrderedDict, in which torch keeps the versions of modules
        else:
            raise RefusedError("operation", f"it sets the attributes of {described(target)}")

    def refer(self, pid: Any) -> None:
        """Puts what a persistent id refers to on the stack."""
        found = self.stored(pid)
        if not isinstance(found, (Storage, Name)):
            raise RefusedError("reference", f"it refers to {described(pid)}")
        self.stack.append(found)
