"""Keeps code that takes a converted layer for a plain convolution from changing what a model computes without a word.

Libraries fold norms into convolutions, and merge parallel branches: they read ``conv.weight`` and put a new convolution, or new
tensors, in its place. No convolution with the ``weight`` of a trained converted layer computes what the layer computes. The
guard knows which other code reads that weight. It raises if, before the layer runs again, the layer or the norm beside it is
taken out of the model, or if its weight or bias is replaced; and it warns if values are read for inference. The guard is a part
of the model and travels with a pickle.
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
from torch import Tensor, nn
from torch.fx import _symbolic_trace

from saconv_surgeon.convs.converted import INHERITED, ConvertedLayer
from saconv_surgeon.convs.known_norms_and_activations import is_norm
from saconv_surgeon.convs.reading_code import reads_values
from saconv_surgeon.errors import LostLayerWarning, NotPlainError, NotPlainWarning

PACKAGE = __name__.partition(".")[0]
OF_TORCH = "torch.nn.modules."
"""Modules whose code only carries out what its caller wants."""

_readers: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""The layers whose weight code outside this package has read since they last ran, and which code."""
_unguarded: ContextVar[bool] = ContextVar("unguarded", default=False)


@contextmanager
def unguarded() -> Iterator[None]:
    """Inside, layers may be exchanged and their weights replaced although code has read them: you know what you do."""
    token = _unguarded.set(True)
    try:
        yield
    finally:
        _unguarded.reset(token)


def guard(model: nn.Module) -> None:
    """Guards the converted layers of ``model``, in place. Conversion does so; needed for layers that were built by hand.

    Parameters, outputs and state dicts are unchanged.
    """
    holders = {
        ".".join(path.split(".")[:depth])
        for path, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, ConvertedLayer) and path
        for depth in range(path.count(".") + 1)
    }
    for path, module in model.named_modules():
        if type(module._modules).__name__ not in ("dict", "OrderedDict"):
            continue  # guarded already, or a TorchScript module
        if isinstance(module, ConvertedLayer):
            vars(module)["_modules"] = GuardedParts(module._modules)
        elif path in holders:
            vars(module)["_modules"] = GuardedModules(module._modules)


class GuardedModules(dict[str, Any]):
    """The submodules of a module that has converted layers somewhere below it."""

    def __setitem__(self, name: str, module: nn.Module | None) -> None:
        self.check(name, module)
        super().__setitem__(name, module)

    def __delitem__(self, name: str) -> None:
        self.check(name, None)
        super().__delitem__(name)

    def pop(self, name: str, *default: Any) -> Any:
        """See ``dict.pop``."""
        self.check(name, None)
        return super().pop(name, *default)

    def update(self, *others: Any, **named: Any) -> None:
        """See ``dict.update``."""
        for name, module in dict(*others, **named).items():
            self[name] = module

    def check(self, name: str, new: nn.Module | None) -> None:
        """Looks at what ``new``, or nothing, is about to replace.

        Raises:
            NotPlainError: A trained layer whose weight was read would be lost, or the norm beside it.
        """
        old = self.get(name)
        if old is None or old is new or not _readers or _unguarded.get():
            return
        if _is_removed_norm(old, new):
            corrupted = [part for part in self.values() if part in _readers and not _is_plain(part)]
            if corrupted:
                raise _taken_for_plain(corrupted[0], _read_by(corrupted[0], "the norm beside it is taken out"))
        lost = self._lost(name, old, new)
        for layer in lost:
            if not _is_plain(layer):
                raise _taken_for_plain(layer, _read_by(layer, "the layer is exchanged"))
        if lost and not isinstance(new, ConvertedLayer):
            reader = [_readers.pop(layer) for layer in lost][-1]
            more = f" and {len(lost) - 1} more" if lost[1:] else ""
            warnings.warn(
                f"{_name(lost[0])}{more}: its weight was read by {reader}, and the layer, which has not been trained, is "
                "exchanged: a plain convolution computes the same, but nothing of the conversion is left there. Let that "
                "library rewrite the model first, and convert afterwards",
                LostLayerWarning,
                stacklevel=3,
            )

    def _lost(self, name: str, old: nn.Module, new: nn.Module | None) -> list[ConvertedLayer]:
        """The layers in ``old`` that have been read and that would be nowhere below this module any more."""
        read = [m for m in old.modules() if isinstance(m, ConvertedLayer) and m in _readers]
        if not read:
            return []
        others = [module for other, module in self.items() if other != name]
        kept = {id(m) for module in (*others, new) if module is not None for m in module.modules()}
        return [layer for layer in read if id(layer) not in kept]


class GuardedParts(GuardedModules):
    """The submodules of a converted layer: what a fuser finds that goes into every module."""

    def check(self, name: str, new: nn.Module | None) -> None:
        """As for any module; the layer's own norm may not be taken out by other code, whatever that has read."""
        old = self.get(name)
        if old is not None and _is_removed_norm(old, new) and not _unguarded.get():
            caller = foreign_caller()
            if caller is not None:
                raise _taken_for_plain(None, f"{caller} takes out the norm {name!r} of a converted layer")
        super().check(name, new)


def note_reader(layer: nn.Module) -> None:
    """To be called when the weight of ``layer`` is read: remembers who did, unless it is code of this package."""
    frame = sys._getframe(2)
    origin: str = frame.f_globals.get("__name__", "")
    if origin.startswith((PACKAGE, OF_TORCH)):
        return
    _readers[layer] = _described(frame)
    quiet = layer.training or torch.is_grad_enabled() or _unguarded.get() or _symbolic_trace._is_fx_tracing_flag
    if quiet or not reads_values(frame.f_code, frame.f_lasti):
        return
    if not _is_plain(layer) and not _inside_a_forward(frame):  # which was trained with what it reads
        warnings.warn(
            f"{_name(layer)}: {_readers[layer]} reads its weight, and no plain convolution with that weight computes the same: "
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
    if not torch.compiler.is_compiling() and _readers:  # in this order: compiled code must not depend on who has read
        _readers.pop(layer, None)


class GuardedLayer(ConvertedLayer):
    """A converted layer with a parameter ``weight`` that is not the kernel it convolves with, once it has been trained.

    At rest it is that kernel, and an assignment keeps it so: a layer that gets another ``weight`` or ``bias`` computes the plain
    convolution with these. In a trained layer only the same values may be assigned; optimizers, loaders and ``.data`` are free.
    """

    resizable = False
    """Whether the layer has no other parts whose shape follows from the weight's."""

    @property
    def weight(self) -> Tensor:
        """The parameter ``weight``; the guard remembers which code outside this package reads it."""
        held = vars(self)
        kernel = held.get("_parameters", {}).get("weight")
        if kernel is None:  # pruning and sharding put a plain tensor in the parameter's place
            kernel = held.get("weight")
        if kernel is None:
            raise AttributeError(f"{type(self).__name__} has no weight")
        if not torch.compiler.is_compiling():
            note_reader(self)
        return kernel

    @weight.setter
    def weight(self, value: Tensor) -> None:
        vars(self)["weight"] = value

    @weight.deleter
    def weight(self) -> None:
        del vars(self)["weight"]

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """See ``torch.nn.Module``; replacing a weight or bias is checked.

        Raises:
            NotPlainError: The layer has been trained, or has other parts of the old shape.
        """
        moved = name in INHERITED and name in self._parameters and self._is_other(name, param)
        super().register_parameter(name, param)
        if moved and name == "weight":
            self.rest_with_weight()

    def rest_with_weight(self) -> None:
        """Makes ``weight`` the kernel that the layer convolves with."""
        raise NotImplementedError

    def _is_other(self, name: str, new: nn.Parameter | None) -> bool:
        """Whether other code is about to give the layer, which is at rest, another weight or bias."""
        held = self._parameters[name]
        known = all(t is None or (type(t.data) is Tensor and not t.is_meta) for t in (held, new))
        if not known or new is held or _unguarded.get():
            return False
        caller = foreign_caller()
        if caller is None or _same_values(held, new):
            return False
        if not self.is_at_rest():
            raise _taken_for_plain(self, f"{caller} replaces its {name}")
        if held is not None and new is not None and held.shape != new.shape and not self.resizable:
            raise NotPlainError(
                f"{_name(self)}: {caller} gives it a {name} of another shape, as pruning does, but its contexts, switch and wide "
                "branch keep theirs; prune first and convert afterwards, or fold it (saconv-surgeon fold) and prune that"
            )
        return True


class WithoutWeight(ConvertedLayer):
    """A converted layer that is computed from no parameter ``weight`` or ``bias`` of its own, so that neither can be assigned."""

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """See ``torch.nn.Module``.

        Raises:
            NotPlainError: For ``weight`` and ``bias``, which the layer would ignore.
        """
        if name in INHERITED:
            raise _taken_for_plain(self, f"{foreign_caller() or 'the caller'} sets its {name}")
        super().register_parameter(name, param)


def foreign_caller() -> str | None:
    """The code that called torch's or the guard's, as ``function (file.py:12)``; None if it is of this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        origin = frame.f_globals.get("__name__", "")
        if origin != __name__ and not origin.startswith(OF_TORCH):
            return None if origin.startswith(f"{PACKAGE}.") else _described(frame)
        frame = frame.f_back
    return None


def _described(frame: FrameType) -> str:
    return f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def _is_removed_norm(old: nn.Module, new: nn.Module | None) -> bool:
    return is_norm(old) and (new is None or type(new) is nn.Identity)


def _is_plain(layer: Any) -> bool:
    return isinstance(layer, ConvertedLayer) and layer.computes_its_weight()


def _same_values(a: nn.Parameter | None, b: nn.Parameter | None) -> bool:
    if a is None or b is None or a.shape != b.shape:
        return a is b
    return torch.equal(a.detach().to(b.device, b.dtype), b.detach())


def _read_by(layer: nn.Module, then: str) -> str:
    return f"its weight was read by {_readers.pop(layer)}, and now {then}"


def _taken_for_plain(layer: nn.Module | None, seen: str) -> NotPlainError:
    return NotPlainError(
        f"{_name(layer) + ': ' if layer is not None else ''}{seen}, as if a plain convolution with that weight computed "
        "the same; none does. Fold the model first (saconv-surgeon fold, saconv_surgeon.fold), which leaves plain "
        "convolutions if it can, or put that step before the conversion; if it is meant, do it inside saconv_surgeon.unguarded()"
    )


def _name(layer: nn.Module) -> str:
    path = getattr(layer, "path", None)
    return f"{type(layer).__name__} at {path!r}" if path else type(layer).__name__
