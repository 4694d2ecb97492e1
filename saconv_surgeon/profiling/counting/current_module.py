"""Which module is running."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from saconv_surgeon.models.tree.paths import paths_of


class RunningModule:
    """The module that is running: the innermost one that has a path in ``model``."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.paths = {key: names[0] for key, names in paths_of(model).items()}
        self.stack: list[tuple[int, str]] = [(0, "")]
        self.calls: Counter[str] = Counter()
        self.left_by_exceptions: list[str] = []
        self.elsewhere: list[str] = []
        """Modules that ran in another thread than the one that is watched."""

    @property
    def path(self) -> str:
        """Its path."""
        return self.stack[-1][1]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Follows what runs, by hooks that are taken off afterwards."""
        handles = []
        self.error = sys.exc_info()[1]
        self.thread = threading.get_ident()
        try:
            for module in self.model.modules():
                if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                    handles.append(module.register_forward_pre_hook(self._enter, prepend=True))
                    handles.append(module.register_forward_hook(self._leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self.paths.get(id(module), self.path)
        if threading.get_ident() != self.thread:
            self.elsewhere.append(path)
            return
        self.calls[path] += 1
        self.stack.append((id(module), path))

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != self.thread or self.stack[-1][0] != id(module):
            return  # a hook for all modules raised before this one could be entered
        _, path = self.stack.pop()
        if output is None and sys.exc_info()[1] is not self.error:
            self.left_by_exceptions.append(path)
