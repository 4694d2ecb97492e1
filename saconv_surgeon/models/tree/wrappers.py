"""Wrappers around a model that are not part of it: parallel training, compilation, weight averaging."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from saconv_surgeon.errors import ModelError

INNER = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}
"""The attribute that holds the wrapped model. By name, since importing the classes would import the compiler."""
COMPILER = "torch._dynamo"
PROGRAM_PARTS = ("InterpreterModule", "UnflattenedModule")


def unwrapped(model: nn.Module) -> nn.Module:
    """What ``DataParallel``, ``DistributedDataParallel``, ``AveragedModel`` or ``torch.compile`` was put around.

    Raises:
        ModelError: ``model`` is not a module, or nothing can be taken out of it.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"a torch.nn.Module is needed, not a {type(model).__name__}")
    while _is_wrapper(model):
        model = getattr(model, INNER[type(model).__name__])
    if _is_made_by_export(model):
        raise ModelError(
            f"this {type(model).__name__} came out of an exported program and has no convolution modules; "
            "give the ExportedProgram itself, or the .pt2 file that it was loaded from"
        )
    return model


def rewrapped(model: nn.Module, inner: nn.Module) -> nn.Module:
    """A copy of the wrappers of ``model``, around ``inner``."""
    if not _is_wrapper(model):
        return inner
    name = INNER[type(model).__name__]
    outer = copy.copy(model)
    outer._modules = dict(model._modules)
    setattr(outer, name, rewrapped(getattr(model, name), inner))
    return outer


@contextmanager
def eager() -> Iterator[None]:
    """Runs compiled code as the Python that it was compiled from: hooks and dispatch modes do not see inside compiled code.

    The compiler would also note that it cannot follow them, and never compile those functions again. Control flow operators,
    such as ``torch.cond``, compile themselves when they are called; they too run as Python.
    """
    with ExitStack() as stack:
        if COMPILER in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        else:  # takes a second to import, and most models do not need it
            stack.enter_context(_eager_when_imported(stack))
        yield


@contextmanager
def _eager_when_imported(stack: ExitStack) -> Iterator[None]:
    """As ``force_eager``, from the first call of ``torch.compile`` on."""
    compiles = torch.compile

    def compile_eagerly(*args: Any, **kwargs: Any) -> Any:
        torch.compile = compiles
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        return compiles(*args, **kwargs)

    torch.compile = compile_eagerly
    try:
        yield
    finally:
        torch.compile = compiles


def rebind(model: nn.Module) -> None:
    """Updates compiled code and graphs of the parts of ``model`` after layers were put in or taken out.

    Compiled parts refer to the modules that they were made of; parts of an exported program keep generated code.
    """
    for module in model.modules():
        if type(module).__name__ == "OptimizedModule":
            module.__setstate__(module.__getstate__())  # as unpickling does
        elif type(module).__name__ in PROGRAM_PARTS:
            module.finalize()  # type: ignore[operator]


def _is_wrapper(model: nn.Module) -> bool:
    return type(model).__module__.startswith("torch.") and type(model).__name__ in INNER


def _is_made_by_export(model: nn.Module) -> bool:
    """Whether ``model`` is what torch makes of an exported program; those that this project made hold no traces any more."""
    if type(model).__name__ == "UnflattenedModule":
        return any(node.meta for node in model.graph.nodes)  # type: ignore[union-attr]
    return any(base.__name__ == "_StatefulGraphModule" for base in type(model).__mro__)
