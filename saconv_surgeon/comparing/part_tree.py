"""A model as a tree of parts, each with its class and settings: what is aligned. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

Description = tuple[str, str, str, str]
"""Path, class, settings as ``repr`` shows them between the brackets, and something that tells its weights from others."""


@dataclass(eq=False)
class Part:
    """A module with what is inside it. ``kind`` is empty if only the parts inside are known.

    ``mark`` is the same for the same weights; it decides which of several equal parts one is.
    """

    path: str
    name: str
    kind: str = ""
    settings: str = ""
    mark: str = ""
    children: list[Part] = field(default_factory=list)

    @property
    def own(self) -> str:
        """The part without its children: ``Conv2d(3, 64, kernel_size=(7, 7))``."""
        return f"{self.kind}({self.settings})" if self.kind else ""

    @property
    def is_sequence(self) -> bool:
        """Whether the children have numbers for names, which say nothing but their order."""
        return self.kind != "ModuleDict" and bool(self.children) and all(c.name.isdecimal() for c in self.children)

    @cached_property
    def size(self) -> int:
        """How many parts this is, with itself."""
        return 1 + sum(child.size for child in self.children)

    @cached_property
    def inside(self) -> Counter[str]:
        """Every part inside, by what it is."""
        return sum((child.inside + Counter([child.own]) for child in self.children), Counter())

    @cached_property
    def marks(self) -> Counter[str]:
        """Those of the part and of everything inside."""
        return sum((child.marks for child in self.children), Counter([self.mark]))

    @cached_property
    def signature(self) -> str:
        """The same for two parts that differ in nothing but their own names."""
        inner = ";".join(f"{'' if self.is_sequence else child.name}={child.signature}" for child in self.children)
        return f"{self.own}{{{inner}}}"

    @cached_property
    def identity(self) -> str:
        """As ``signature``, with the weights."""
        return f"{self.signature}{sorted(self.marks.items())}"

    def walk(self) -> Iterator[Part]:
        """The part, then everything inside, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree_of(descriptions: Iterable[Description]) -> Part:
    """The tree whose parts are described by path; those that only occur within other paths have no class."""
    root = Part("", "")
    parts = {"": root}
    for path, kind, settings, mark in descriptions:
        part = _at(path, parts)
        part.kind, part.settings, part.mark = kind, settings, mark
    return root


def _at(path: str, parts: dict[str, Part]) -> Part:
    if path not in parts:
        above, _, name = path.rpartition(".")
        parts[path] = Part(path, name)
        _at(above, parts).children.append(parts[path])
    return parts[path]
