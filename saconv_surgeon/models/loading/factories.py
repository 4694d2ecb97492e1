"""Models and inputs that the user's own Python code makes: ``file.py:factory`` and ``package.module:factory(arguments)``."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from saconv_surgeon.errors import ModelError, UsageError, UserCodeError


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
    if source.endswith(".py"):
        return _import_file(Path(source))
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _import_name(source)


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
    found: Any = import_source(source)
    for name in names:
        if not hasattr(found, name):
            raise ModelError(f"{source} has no {name!r}{_offers(found, name)}")
        found = getattr(found, name)
    if args is not None or kwargs or not callable(found):
        seen = "is called there" if callable(found) else f"is a {type(found).__name__}"
        raise UsageError(f"{spec} {seen}; give the name of a function alone, as in {source}:make")
    return found


def _find(source: str, expression: str, spec: str) -> Callable[[], Any]:
    """What ``expression`` names in ``source``, ready to be called without arguments."""
    names, args, kwargs = parse_expression(expression, spec)
    found: Any = import_source(source)
    for name in names:
        if not hasattr(found, name):
            raise ModelError(f"{source} has no {name!r}{_offers(found, name)}")
        found = getattr(found, name)
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
        UserCodeError: It raised; ``spec`` names it.
    """
    try:
        return make()
    except Exception as error:
        raise UserCodeError(f"{spec} raised {type(error).__name__}: {error}") from error


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


def _offers(module: Any, name: str) -> str:
    public = [
        n
        for n, value in vars(module).items()
        if callable(value)
        and not n.startswith("_")
        and getattr(value, "__module__", None) == getattr(module, "__name__", None)
    ]
    close = difflib.get_close_matches(name, public, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it has {', '.join(sorted(public)[:8])}" if public else ""


def _import_file(path: Path) -> ModuleType:
    if not is_place(path, Path.exists):
        raise ModelError(f"{path} does not exist (looked in {path.absolute().parent})")
    path = path.resolve()
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    if parts[-1] == "__init__":
        parts.pop()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts)
    known = sys.modules.get(name)
    if known is None and _finds(name, path):
        return _import_name(name)
    if known is not None and _is_file(known, path):
        return known
    return _import_as(f"{parts[-1]}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}", path)


def _finds(name: str, path: Path) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == path


def _is_file(module: ModuleType, path: Path) -> bool:
    return module.__file__ is not None and Path(module.__file__).resolve() == path


def _import_as(name: str, path: Path) -> ModuleType:
    """Imports a file whose own name is taken by another module."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserCodeError(f"importing {path} raised {type(error).__name__}: {error}") from error
    return module


def _import_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ModelError(
                f"there is no module {error.name!r} to import (is it installed, or does its path lack .py?)"
            ) from error
        raise UserCodeError(f"importing {name} raised {type(error).__name__}: {error}") from error
    except Exception as error:
        raise UserCodeError(f"importing {name} raised {type(error).__name__}: {error}") from error
