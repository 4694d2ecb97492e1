"""Which code has read the weight of a converted layer, and what it may not do then.

Libraries fold norms into convolutions, and merge parallel branches: they read ``conv.weight`` and put a new convolution, or new
tensors, in its place. No convolution with the ``weight`` of a trained converted layer computes what the layer computes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.fx import _symbolic_trace

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.reading_code import reads_values
from saconv_surgeon.errors import NotPlainError, NotPlainWarning

PACKAGE = __name__.partition(".")[0]
GUARDS = tuple(f"{PACKAGE}.convs.{name}" for name in ("weight_readers", "kernel_guard", "guarded_layers"))
OF_TORCH = "torch.nn.modules."
"""Modules whose code only carries out what its caller wants."""
FUSING = "torch.nn.utils.fusion"
"""The only code of torch that takes the weight of a convolution for its kernel; all other treats it as a tensor."""

READERS: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""The layers whose weight code outside this package has read since they last ran, and which code."""
_unguarded: ContextVar[bool] = ContextVar("unguarded", default=False)
# Found here, at import, since nn.Module takes an AttributeError in a property for a missing parameter, without a word.
# The second, of older versions of torch, warns in newer ones.
_is_fx_tracing = getattr(_symbolic_trace, "is_fx_symbolic_tracing", None) or _symbolic_trace.is_fx_tracing


@contextmanager
def unguarded() -> Iterator[None]:
    """Inside, layers may be exchanged and their weights replaced although code has read them: you know what you do."""
    token = _unguarded.set(True)
    try:
        yield
    finally:
        _unguarded.reset(token)


def is_guarded() -> bool:
    """Whether the caller is outside of :func:`unguarded`."""
    return not _unguarded.get()


def note_reader(layer: nn.Module) -> None:
    """To be called when the weight of ``layer`` is read: remembers who did, unless only its metadata are wanted.

    Warns if a trained layer is read for inference, outside of a model's own forward.
    """
    frame = sys._getframe(2)
    origin: str = frame.f_globals.get("__name__", "")
    if origin.startswith((f"{PACKAGE}.", "torch.")) and origin != FUSING:
        return
    if not reads_values(frame.f_code, frame.f_lasti):
        return
    READERS[layer] = described(frame)
    quiet = layer.training or torch.is_grad_enabled() or _unguarded.get() or _is_fx_tracing()
    if not quiet and not is_plain(layer) and not _inside_a_forward(frame):  # which was trained with what it reads
        warnings.warn(
            f"{name_of(layer)}: {READERS[layer]} reads its weight, and no plain convolution with that weight computes the same: "
            "the layer has been trained. Fold the model first (saconv-surgeon fold); the kernel of its narrow branch is "
            "standardised_weight()",
            NotPlainWarning,
            stacklevel=3,
        )


def _inside_a_forward(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__:
            return True
        frame = frame.f_back
    return False


def has_run(layer: nn.Module) -> None:
    """To be called when ``layer`` runs: what was read before was not read in order to exchange it."""
    if not torch.compiler.is_compiling() and READERS:  # in this order: compiled code must not depend on who has read
        READERS.pop(layer, None)


def is_plain(layer: Any) -> bool:
    """Whether a plain convolution with the weight of ``layer`` computes the same."""
    return isinstance(layer, ConvertedLayer) and layer.computes_its_weight()


def foreign_caller() -> str | None:
    """The code that called the guard, as ``function (file.py:12)``; None if it is of this package or one of torch's tools."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        origin = frame.f_globals.get("__name__", "")
        if origin not in GUARDS and not origin.startswith(OF_TORCH):
            own = origin.startswith((f"{PACKAGE}.", "torch.")) and origin != FUSING
            return None if own else described(frame)
        frame = frame.f_back
    return None


def described(frame: FrameType) -> str:
    """``function (file.py:12)``."""
    return f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def read_by(layer: nn.Module, then: str) -> str:
    """Who read the weight of ``layer``, which is forgotten, and what happens now."""
    return f"its weight was read by {READERS.pop(layer)}, and now {then}"


def taken_for_plain(layer: nn.Module | None, seen: str) -> NotPlainError:
    """The error for ``seen``."""
    return NotPlainError(
        f"{name_of(layer) + ': ' if layer is not None else ''}{seen}, as if a plain convolution with that weight computed "
        "the same; none does. Fold the model first (saconv-surgeon fold, saconv_surgeon.fold), which leaves plain "
        "convolutions if it can, or put that step before the conversion; if it is meant, do it inside saconv_surgeon.unguarded()"
    )


def name_of(layer: nn.Module) -> str:
    """``SAConv2d at 'body.0'``."""
    path = getattr(layer, "path", None)
    return f"{type(layer).__name__} at {path!r}" if path else type(layer).__name__
