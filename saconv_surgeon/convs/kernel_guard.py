"""Keeps code that takes a converted layer for a plain convolution from changing what a model computes without a word.

It raises if code has read the weight of a trained layer and then, before the layer runs again, takes it or the norm beside it
out of the model. What notices that is a part of the model, which travels with copies and pickles. For modules that were made
since, such as a new ``nn.Sequential`` around old layers, it is a hook on the registration of modules.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.known_norms_and_activations import is_norm
from saconv_surgeon.convs.weight_readers import (
    READERS,
    foreign_caller,
    is_guarded,
    is_plain,
    name_of,
    read_by,
    taken_for_plain,
)
from saconv_surgeon.errors import LostLayerWarning


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
        """See :func:`check_exchange`."""
        check_exchange(self, name, new)


class GuardedParts(GuardedModules):
    """The submodules of a converted layer: what a fuser finds that goes into every module."""

    def check(self, name: str, new: nn.Module | None) -> None:
        """As for any module; the layer's own norm may not be taken out by other code, whatever that has read."""
        old = self.get(name)
        if old is not None and _is_removed_norm(old, new) and _holds_nothing(new) and is_guarded():
            caller = foreign_caller()
            if caller is not None:
                raise taken_for_plain(None, f"{caller} takes out the norm {name!r} of a converted layer")
        super().check(name, new)


def check_exchange(modules: Mapping[str, nn.Module | None], name: str, new: nn.Module | None) -> None:
    """Looks at what ``new``, or nothing, is about to replace among the ``modules`` of a module.

    Raises:
        NotPlainError: A trained layer whose weight was read would be lost, or the norm beside it; or a convolution is put beside
            it, as code does that merges branches.
    """
    old = modules.get(name)
    if old is new or not READERS or not is_guarded() or foreign_caller() is None:
        return
    if old is None:
        merged = _merged_into(modules, new)
        if merged is not None:
            raise taken_for_plain(merged, read_by(merged, "a convolution is put beside it"))
        return
    if _is_removed_norm(old, new):
        corrupted = [layer for layer in _read_in(modules.values()) if not is_plain(layer)]
        if corrupted:
            raise taken_for_plain(corrupted[0], read_by(corrupted[0], "the norm beside it is taken out"))
    lost = _lost(modules, name, old, new)
    for layer in lost:
        if not is_plain(layer):
            raise taken_for_plain(layer, read_by(layer, "the layer is exchanged"))
    if lost:
        reader = [READERS.pop(layer) for layer in lost][-1]
        more = f" and {len(lost) - 1} more" if lost[1:] else ""
        warnings.warn(
            f"{name_of(lost[0])}{more}: its weight was read by {reader}, and the layer, which has not been trained, is "
            "exchanged: a plain convolution computes the same, but nothing of the conversion is left there. Let that "
            "library rewrite the model first, and convert afterwards",
            LostLayerWarning,
            stacklevel=4,
        )


def _on_registration(module: nn.Module, name: str, new: nn.Module | None) -> None:
    """What torch calls before a module gets a submodule."""
    if READERS and not isinstance(module._modules, GuardedModules):
        check_exchange(module._modules, name, new)


register_module_module_registration_hook(_on_registration)


def _read_in(modules: Any) -> list[ConvertedLayer]:
    """The layers in ``modules``, at any depth, whose weight was read."""
    inside = (part for module in modules if module is not None for part in module.modules())
    return [part for part in inside if part in READERS and isinstance(part, ConvertedLayer)]


def _lost(
    modules: Mapping[str, nn.Module | None], name: str, old: nn.Module, new: nn.Module | None
) -> list[ConvertedLayer]:
    """The layers in ``old`` that have been read and that would be nowhere below the module any more.

    There are none if ``new`` has converted layers as well: it is a copy, or an average.
    """
    read = _read_in([old])
    if not read or (new is not None and any(isinstance(part, ConvertedLayer) for part in new.modules())):
        return []
    others = [module for other, module in modules.items() if other != name]
    kept = {id(part) for module in others if module is not None for part in module.modules()}
    return [layer for layer in read if id(layer) not in kept]


def _merged_into(modules: Mapping[str, nn.Module | None], new: nn.Module | None) -> ConvertedLayer | None:
    """The trained layer that ``new``, a plain convolution of as many channels with a bias, may have been merged from."""
    if type(new) is not nn.Conv2d or new.bias is None:
        return None
    alike = (layer for layer in _read_in(modules.values()) if getattr(layer, "out_channels", None) == new.out_channels)
    return next((layer for layer in alike if not is_plain(layer)), None)


def _is_removed_norm(old: nn.Module, new: nn.Module | None) -> bool:
    if not is_norm(old):
        return False
    return new is None or not (is_norm(new) or any(part is old for part in new.modules()))


def _holds_nothing(module: nn.Module | None) -> bool:
    return module is None or not any(True for _ in (*module.parameters(), *module.buffers()))
