"""From what a user types as MODEL to a module: factories, and files written by ``torch.save``."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError, UsageError, UserCodeError
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.models.weights import fit_weights, read_pickle, read_weights

CHECKPOINT_ENTRIES = ("ema", "model", "module", "net", "network")
FORMS = (
    "MODEL is file.py:factory, package.module:factory(arguments), a pickled model.pt (with --trust), or the folder of an "
    "earlier conversion"
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A module, the name that the user gave it, and the inputs that its source offers (``example_inputs()``), if any."""

    module: nn.Module
    name: str
    example_inputs: Callable[[], Any] | None = None


def load_model(spec: str, *, weights: Path | None = None, trust: bool = False) -> LoadedModel:
    """The model that ``spec`` stands for, with ``weights`` loaded into it.

    Raises:
        ModelError: It cannot be found or loaded, is no module, or the weights do not fit.
        UntrustedError: A file that runs code when loaded, without ``trust``.
        UserCodeError: The user's own code raised.
    """
    path = Path(spec)
    factory = None if path.is_file() else split_factory(spec)
    loaded = _from_file(path, spec, trust) if factory is None else _from_factory(*factory, spec)
    if weights is not None:
        fit_weights(loaded.module, read_weights(weights), str(weights))
    return loaded


def split_factory(spec: str) -> tuple[str, str] | None:
    """``"file.py:make(3)"`` as ``("file.py", "make(3)")``; None where ``spec`` has no such form."""
    found = re.fullmatch(r"(.+\.py|[A-Za-z_][\w.]*):([A-Za-z_].*)", spec)
    return (found[1], found[2]) if found else None


def make_inputs(specs: tuple[str, ...], *, seed: int) -> Inputs:
    """Inputs from ``--input``: sizes such as ``1x3x224x224`` (one for each input), or one ``file.py:make_inputs``.

    Raises:
        UsageError: Neither of the two.
    """
    shapes = [_parse_shape(spec) for spec in specs]
    if all(shape is not None for shape in shapes):
        generator = torch.Generator().manual_seed(seed)
        return Inputs(args=tuple(torch.randn(shape, generator=generator) for shape in shapes if shape is not None))
    wrong = next(spec for spec, shape in zip(specs, shapes, strict=True) if shape is None)
    factory = split_factory(wrong)
    if factory is None or len(specs) > 1:
        raise UsageError(f"--input {wrong!r} is neither a size such as 1x3x224x224 nor a single file.py:make_inputs")
    return Inputs.of(_call(_find(*factory, wrong), wrong))


def offered_inputs(loaded: LoadedModel) -> Inputs:
    """What the model's own source offers as inputs.

    Raises:
        UsageError: Nothing.
    """
    if loaded.example_inputs is None:
        raise UsageError(
            f"{loaded.name}: no inputs to run it on; give --input 1x3x224x224 (once for each input) or "
            "--input file.py:make_inputs, or put example_inputs() beside the factory"
        )
    try:
        return Inputs.of(loaded.example_inputs())
    except Exception as error:
        raise UserCodeError(f"example_inputs() of {loaded.name} raised {type(error).__name__}: {error}") from error


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


# ------------------------------------------------------------------ factories


def _from_factory(source: str, expression: str, spec: str) -> LoadedModel:
    made = _call(_find(source, expression, spec), spec)
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{spec} gave a {type(made).__name__}; a torch.nn.Module is needed (did the factory forget to return it?)"
        )
    offered = getattr(import_source(source), "example_inputs", None)
    return LoadedModel(made, spec, offered if callable(offered) else None)


def _find(source: str, expression: str, spec: str) -> Callable[[], Any]:
    """What ``expression`` names in ``source``, ready to be called without arguments."""
    names, args, kwargs = _parse_expression(expression, spec)
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
        pass  # no signature to be read
    return lambda: found(*(args or ()), **kwargs)


def _call(make: Callable[[], Any], spec: str) -> Any:
    try:
        return make()
    except Exception as error:
        raise UserCodeError(f"{spec} raised {type(error).__name__}: {error}") from error


def _parse_expression(expression: str, spec: str) -> tuple[list[str], list[Any] | None, dict[str, Any]]:
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
    except (SyntaxError, ValueError) as error:
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
    if not path.exists():
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


# ------------------------------------------------------------------ files


def _from_file(path: Path, spec: str, trust: bool) -> LoadedModel:
    if path.suffix == ".safetensors":
        raise ModelError(f"{path} holds weights only; give the code as MODEL and this file as --weights {path}")
    if path.suffix in (".pt2", ".onnx", ".torchscript"):
        raise ModelError(f"{path}: {path.suffix} files cannot be read; give the code as MODEL. {FORMS}")
    if not path.exists() and path.suffix not in (".pt", ".pth", ".ckpt"):
        raise ModelError(f"there is no model {spec!r}; {FORMS}")
    return LoadedModel(_module_in(read_pickle(path, trust=trust), path), spec)


def _module_in(content: Any, path: Path) -> nn.Module:
    if isinstance(content, torch.jit.ScriptModule):
        raise ModelError(f"{path} is a TorchScript archive, which cannot be operated on; give the code as MODEL")
    if isinstance(content, nn.Module):
        return content
    if isinstance(content, Mapping):
        for name in CHECKPOINT_ENTRIES:
            if isinstance(content.get(name), nn.Module):
                return _module_in(content[name], path)
        if any(isinstance(value, (torch.Tensor, Mapping)) for value in content.values()):
            raise ModelError(f"{path} holds weights only; give the code as MODEL and this file as --weights {path}")
    raise ModelError(f"{path} holds a {type(content).__name__} without a model in it; a torch.nn.Module is needed")


def _parse_shape(spec: str) -> tuple[int, ...] | None:
    parts = spec.lower().split("x")
    return tuple(int(p) for p in parts) if all(p.isdecimal() for p in parts) else None
