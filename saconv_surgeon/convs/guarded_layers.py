"""Layers whose weight and bias other code may take for those of a plain convolution."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import INHERITED, ConvertedLayer
from saconv_surgeon.convs.weight_readers import foreign_caller, is_guarded, name_of, note_reader, taken_for_plain
from saconv_surgeon.errors import NotPlainError

_deleted: WeakKeyDictionary[nn.Module, dict[str, tuple[nn.Parameter | None, bool]]] = WeakKeyDictionary()
"""By layer and name, parameters that were deleted, and whether the layer was at rest then."""


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
        """See ``torch.nn.Module``; replacing a weight or bias is checked, also if the old one was deleted before.

        Raises:
            NotPlainError: The layer has been trained, or has other parts of the old shape.
        """
        there = name in self._parameters
        moved = name in INHERITED and (there or name in _deleted.get(self, {})) and self._is_other(name, param)
        if not there:
            _deleted.get(self, {}).pop(name, None)
        super().register_parameter(name, param)
        if moved and name == "weight":
            self.rest_with_weight()

    def __delattr__(self, name: str) -> None:
        if name in INHERITED and name in self._parameters:
            _deleted.setdefault(self, {})[name] = self._parameters[name], self._rested()
        super().__delattr__(name)

    def _rested(self) -> bool:
        """Whether the layer is at rest, or was when its weight was deleted; True if there are no values that would tell."""
        kernel = self._parameters.get("weight")
        if kernel is None:
            return _deleted.get(self, {}).get("weight", (None, True))[1]
        return type(kernel.data) is not Tensor or kernel.is_meta or self.is_at_rest()

    def rest_with_weight(self) -> None:
        """Makes ``weight`` the kernel that the layer convolves with."""
        raise NotImplementedError

    def _is_other(self, name: str, new: nn.Parameter | None) -> bool:
        """Whether other code is about to give the layer, which is at rest, another weight or bias."""
        if name in self._parameters:
            held, rests = self._parameters[name], None
        else:
            held, rests = _deleted[self][name]
        known = all(t is None or (type(t.data) is Tensor and not t.is_meta) for t in (held, new))
        if not known or new is held or not is_guarded():
            return False
        caller = foreign_caller()
        if caller is None or _same_values(held, new):
            return False
        if not (self.is_at_rest() if rests is None else rests):
            raise taken_for_plain(self, f"{caller} replaces its {name}")
        if held is not None and new is not None and held.shape != new.shape and not self.resizable:
            raise NotPlainError(
                f"{name_of(self)}: {caller} gives it a {name} of another shape, as pruning does, but its contexts, switch and "
                "wide branch keep theirs; prune first and convert afterwards, or fold it (saconv-surgeon fold) and prune that"
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
            raise taken_for_plain(self, f"{foreign_caller() or 'the caller'} sets its {name}")
        super().register_parameter(name, param)


def _same_values(a: nn.Parameter | None, b: nn.Parameter | None) -> bool:
    if a is None or b is None or a.shape != b.shape:
        return a is b
    return torch.equal(a.detach().to(b.device, b.dtype), b.detach())
