"""What a file or module offers that could make a model, read from its source: nothing of it is run."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from saconv_surgeon.records.input_files import read_bytes

LARGEST = 16 << 20
"""Bytes of a file that is searched."""
MOST = 12
"""Factories that are listed."""
NO_MODEL = frozenset("None bool bytes dict float int list set str tuple Tensor torch.Tensor".split())
"""What a factory does not return."""
NO_MODULES = frozenset(
    "object ABC Enum IntEnum StrEnum Generic NamedTuple Protocol TypedDict dict list str tuple int float".split()
)
"""Base classes that make no module."""
NO_FACTORIES = frozenset({"main", "example_inputs"})


@dataclass(frozen=True)
class Offered:
    """A function or class that may make a model, and its arguments as they are written."""

    name: str
    arguments: str

    def __str__(self) -> str:
        return f"{self.name}({self.arguments})"


def source_of(module: str) -> Path | None:
    """The file of a module, from the working folder or ``sys.path``; None if it has none. Nothing is imported."""
    places: list[str] | None = None
    found: Path | None = None
    parts = module.split(".")
    for i in range(len(parts)):
        name = ".".join(parts[: i + 1])
        spec = (PathFinder.find_spec(name, [str(Path.cwd())]) if i == 0 else None) or PathFinder.find_spec(name, places)
        if spec is None:
            return None
        places = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
        found = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
        if i + 1 < len(parts) and places is None:
            return None
    return found


def offered_by(file: Path) -> tuple[Offered, ...]:
    """The public functions and classes of ``file`` that may make a model, in the order of their definition.

    Classes are those that derive from something that may be a module; functions those that are not annotated to return something
    else. Empty if the file cannot be read.
    """
    try:
        tree = ast.parse(read_bytes(file, LARGEST))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(_offered(tree.body, {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}))


def listed(source: str, file: Path, name: str | None = None) -> str:
    """What ``source``, which lies in ``file``, offers: those close to ``name`` if there are any, otherwise all, as a sentence."""
    offered = offered_by(file)
    if not offered:
        return f"{file} defines no function or class that could make a model"
    close = [] if name is None else difflib.get_close_matches(name.lower(), [o.name.lower() for o in offered], n=3)
    if close:
        return f"did you mean {' or '.join(f'{source}:{o}' for o in offered if o.name.lower() in close)}?"
    more = f"\n  and {len(offered) - MOST} more" if len(offered) > MOST else ""
    return "it has\n  " + "\n  ".join(f"{source}:{each}" for each in offered[:MOST]) + more


def _offered(body: list[ast.stmt], classes: dict[str, ast.ClassDef]) -> Iterator[Offered]:
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from _offered(node.body, classes)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and _is_public(node.name):
            if isinstance(node, ast.ClassDef) and _may_be_module(node, classes, frozenset()):
                yield Offered(node.name, _constructor(node, classes, frozenset()))
            elif isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or ast.Name("")) not in NO_MODEL:
                yield Offered(node.name, ast.unparse(node.args))
        elif isinstance(node, ast.ImportFrom) and node.level:  # a package hands on what its files define
            yield from (Offered(name, "…") for name in (a.asname or a.name for a in node.names) if _is_public(name))


def _is_public(name: str) -> bool:
    return not name.startswith(("_", "*")) and name not in NO_FACTORIES


def _may_be_module(node: ast.ClassDef, classes: dict[str, ast.ClassDef], seen: frozenset[str]) -> bool:
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        if name in classes and name not in seen:
            if _may_be_module(classes[name], classes, seen | {node.name, name}):
                return True
        elif (last := name.rpartition(".")[2]) not in NO_MODULES and not last.endswith(
            ("Error", "Exception", "Warning")
        ):
            return True
    return False


def _constructor(node: ast.ClassDef, classes: dict[str, ast.ClassDef], seen: frozenset[str]) -> str:
    """The arguments of a class, without ``self``; of its own constructor or of one that it inherits in the same file."""
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            arguments = ast.unparse(each.args).partition(",")[2].strip()
            return arguments.removeprefix("/").removeprefix(",").strip()
    for base in node.bases:
        name = ast.unparse(base)
        if name in classes and name not in seen:
            return _constructor(classes[name], classes, seen | {node.name, name})
    return "" if all(ast.unparse(base) in ("nn.Module", "torch.nn.Module", "Module") for base in node.bases) else "…"
