"""Models and inputs that the user's own Python code makes: ``file.py:factory`` and ``package.module:factory(arguments)``."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.models.loading.offered_factories import listed
from saconv_surgeon.models.loading.users_code import users_code
from saconv_surgeon.records.input_files import NotReadableError, read_bytes

LARGEST_SOURCE = 16 << 20
"""Bytes of Python code in one file."""


def split_factory(spec: str) -> tuple[str, str] | None:
    """``"file.py:make(3)"`` as ``("file.py", "make(3)")``; None if ``spec`` has no such form."""
    found = re.fullmatch(r"(.+\.py|[A-Za-z_][\w.]*):([A-Za-z_].*)", spec)
    return (found[1], found[2]) if found else None


def is_place(path: Path, question: Callable[[Path], bool]) -> bool:
    """``question`` of ``path``; False if the system does not accept it as a file name (for example, because it is too long)."""
    try:
        return question(path)
    except (OSError, ValueError):
        return False


def import_source(source: str) -> ModuleType:
    """The module at ``source``, a path that ends in ``.py`` or a dotted name.

    A file is imported as Python would import it from its own folder (its package's, if it is part of one), so that its
    neighbours can be imported and its classes can be pickled.

    Raises:
        ModelError: There is no such file or module.
        UserCodeError: Importing it raised.
    """
    return _import_file(Path(source)) if source.endswith(".py") else _import_name(source, Path.cwd())


def made_by(source: str, expression: str, spec: str) -> Any:
    """What calling ``expression`` of ``source`` gives; ``spec`` is how the user wrote both.

    Raises:
        ModelError: It cannot be found or called so.
        UserCodeError: It raised.
    """
    return call(_find(source, expression, spec), spec)


def named_by(source: str, expression: str, spec: str) -> Callable[..., Any]:
    """The function ``expression`` of ``source``, as it is; ``spec`` is how the user wrote both.

    Raises:
        ModelError: It cannot be found.
        UsageError: It is called, or is not a function.
        UserCodeError: Importing its file raised.
    """
    names, args, kwargs = parse_expression(expression, spec)
    found = _attribute(source, names)
    if args is not None or kwargs or not callable(found):
        seen = "is called there" if callable(found) else f"is a {type(found).__name__}"
        raise UsageError(f"{spec} {seen}; give the name of a function alone, as in {source}:make")
    return found


def _attribute(source: str, names: Sequence[str]) -> Any:
    """What the dotted ``names`` are in ``source``."""
    found: Any = import_source(source)
    for name in names:
        if not hasattr(found, name):
            raise ModelError(f"{source} has no {name!r}{_offers(found, name, source)}")
        found = getattr(found, name)
    return found


def _find(source: str, expression: str, spec: str) -> Callable[[], Any]:
    """What ``expression`` names in ``source``, ready to be called without arguments."""
    names, args, kwargs = parse_expression(expression, spec)
    found = _attribute(source, names)
    if isinstance(found, nn.Module) and args is None:
        return lambda: found
    if not callable(found):
        raise ModelError(
            f"{spec} is a {type(found).__name__}; a function that returns a model, or a model class, is needed"
        )
    try:
        inspect.signature(found).bind(*(args or ()), **kwargs)
    except TypeError as error:
        raise ModelError(
            f"{spec} cannot be called so: {error}; its signature is {'.'.join(names)}{inspect.signature(found)}, "
            f"give arguments as in {source}:{'.'.join(names)}(depth=18)"
        ) from error
    except ValueError:
        pass  # it has no readable signature
    return lambda: found(*(args or ()), **kwargs)


def call(make: Callable[[], Any], spec: str) -> Any:
    """What ``make`` returns.

    Raises:
        UserCodeError: It raised or ended the process; ``spec`` names it.
    """
    factory = split_factory(spec)
    with users_code(spec, *(place_of(factory[0]) if factory else ())):
        return make()


def place_of(source: str) -> tuple[str, Path]:
    """The file or name of a module, and the folder from which it is imported: that above its package."""
    if not source.endswith(".py"):
        return source, Path.cwd()
    path = Path(source).resolve()
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return str(path), root


def parse_expression(expression: str, spec: str) -> tuple[list[str], list[Any] | None, dict[str, Any]]:
    """``a.b(3, depth=18)`` as names, positional arguments (None without a call) and keyword arguments; literals only."""
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        args, kwargs = None, {}
        if isinstance(node, ast.Call):
            args = [ast.literal_eval(argument) for argument in node.args]
            kwargs = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords if k.arg}
            node = node.func
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise ValueError("not a name")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise UsageError(
            f"cannot read {expression!r} in {spec!r}: expected a name, or a call with literal arguments as in build(depth=18)"
        ) from error
    return [node.id, *names], args, kwargs


def _offers(found: Any, name: str, source: str) -> str:
    """What may be meant by ``name``, which ``found`` does not have: names close to it, or what there is."""
    names = [n for n, value in vars(found).items() if not n.startswith("_") and _may_make(value)]
    lower = {n.lower(): n for n in reversed(names)}
    close = difflib.get_close_matches(name.lower(), lower, n=3)
    if close:
        return f"; did you mean {' or '.join(repr(lower[n]) for n in close)}?"
    file = getattr(found, "__file__", None) if isinstance(found, ModuleType) else None
    if file is not None and file.endswith(".py"):
        return f"; {listed(source, Path(file))}"
    return f"; it has {', '.join(sorted(names)[:8])}" if names else ""


def _may_make(value: Any) -> bool:
    """Whether a value is a model or may return one; what an import of a library brought along does not count."""
    if isinstance(value, nn.Module):
        return True
    return callable(value) and getattr(value, "__module__", "").partition(".")[0] not in ("torch", "typing", "builtins")


def _import_file(path: Path) -> ModuleType:
    if not is_place(path, Path.exists):
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    try:
        read_bytes(path, LARGEST_SOURCE)
    except (NotReadableError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}; give a file of Python code") from error
    source, root = place_of(str(path))
    path = Path(source)
    parts = [*path.parent.relative_to(root).parts, *([] if path.stem == "__init__" else [path.stem])]
    name = ".".join(parts)
    known = sys.modules.get(name)
    if known is not None and _is_file(known, path):
        return known
    if known is None and _finds(name, path, root):
        return _import_name(name, root, str(path))
    return _import_as(f"{parts[-1]}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}", path, root)


def _finds(name: str, path: Path, root: Path) -> bool:
    """Whether ``name`` is imported from ``path`` if ``root`` comes first. Nothing but the packages above it is imported."""
    with users_code(f"importing {path}", str(path), root):
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _is_file(module: ModuleType, path: Path) -> bool:
    return module.__file__ is not None and Path(module.__file__).resolve() == path


def _import_as(name: str, path: Path, root: Path) -> ModuleType:
    """Imports a file whose own name is taken by another module."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with users_code(f"importing {path}", str(path), root):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_name(name: str, root: Path, source: str = "") -> ModuleType:
    """Imports a module with ``root`` as the first place to look; ``source`` is its file, if the user gave that."""
    with users_code(f"importing {source or name}", source or name, root):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
                raise ModelError(
                    f"there is no module {error.name!r} to import (is it installed, or does its path lack .py?)"
                ) from error
            raise
