"""Which module is running: hooks that follow the calls of a model's modules, each of which has a row in a profile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.tree.paths import paths_of


class ModuleCalls:
    """Calls ``entered`` before and ``left`` after each call of a module, between ``attach`` and ``detach``.

    A converted layer is one module: its parts are not followed. A module that a forward makes has no row, so that what it does is
    its caller's. If a call raises, it is left all the same.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.paths = {key: names[0] for key, names in paths_of(model).items()}
        self.handles: list[Any] = []
        self.running: list[int] = []

    @property
    def path(self) -> str:
        """That of the innermost module that is running; that of the model itself if none is."""
        return self.paths[self.running[-1]] if self.running else ""

    def attach(self) -> None:
        """From now on."""
        for module in self._followed():
            self.handles.append(module.register_forward_pre_hook(self._enter, prepend=True))
            self.handles.append(module.register_forward_hook(self._leave, always_call=True))

    def detach(self) -> None:
        """No more; takes the hooks off."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def entered(self) -> None:
        """A call begins, of the module at ``path``."""

    def left(self) -> None:
        """A call ends, of the module at ``path``."""

    def _followed(self) -> Iterator[nn.Module]:
        inside = [layer for layer in self.model.modules() if isinstance(layer, ConvertedLayer)]
        parts = {id(part) for layer in inside for part in layer.modules() if part is not layer}
        for module in self.model.modules():
            if id(module) in self.paths and id(module) not in parts and not isinstance(module, torch.jit.ScriptModule):
                yield module

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.running.append(id(module))
        self.entered()

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.running or self.running[-1] != id(module):
            return  # a hook for all modules raised before this one could be entered
        self.left()
        self.running.pop()
