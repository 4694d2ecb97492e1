"""Running a model without leaving a trace on it."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from saconv_surgeon.models.running.held_values import Content, HeldValues
from saconv_surgeon.models.running.user_gradients import Gradients
from saconv_surgeon.models.tree.reachable import reachable_modules
from saconv_surgeon.models.tree.tensor_values import copy_of, put_back
from saconv_surgeon.models.tree.wrappers import eager
from saconv_surgeon.models.tree.writes import (
    Writes,
    answers_switching,
    note_written,
    restore_values,
    written_by_runs,
)
from saconv_surgeon.records import Mode

SWITCHING = "switching"
HOOKS_AND_PARTS = frozenset({dict, OrderedDict})
ATOMS = frozenset({bool, int, float, str, type(None)})


@contextmanager
def preserved(model: nn.Module, mode: Mode = "eval", *, compiled: bool = False) -> Iterator[None]:
    """In ``mode`` inside; afterwards the model and the random state are as they were.

    Restored are, of every module that the model holds, registered or not: the class, the attributes, the training flag among them
    (a frozen norm in a training model stays frozen), the modules and parameters that it has, its hooks, lists, dicts, plain
    objects and random generators; the values of buffers and of tensors in attributes; whether these and the parameters want a
    gradient, and the gradients that they have; the values of the parameters that ``train()`` writes to, as layers do that merge
    weights. So is the random state of torch, Python and numpy. Inside, compiled code runs as Python, unless ``compiled``.
    """
    kept = _Kept(model)
    try:
        with preserved_randomness(), nullcontext() if compiled else eager():
            kept.switch(mode)
            yield
    finally:
        kept.restore()


class _Kept:
    """What a model was."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = reachable_modules(model)
        self.held = HeldValues(self._keep_tensor)
        self.classes: list[tuple[nn.Module, type]] = []
        self.flags: list[tuple[nn.Module, bool]] = []
        self.tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self.parameters: dict[int, tuple[nn.Parameter, Tensor]] = {}
        self.before: list[tuple[Tensor, Tensor]] = [(p, p.detach().clone()) for p in written_by_runs(model)]
        for module in self.modules:
            self._keep_module(module)
        self.gradients = Gradients(t for t, _ in (*self.parameters.values(), *self.tensors.values()))

    def _keep_module(self, module: nn.Module) -> None:
        for parameter in module._parameters.values():
            if parameter is not None and not nn.parameter.is_lazy(parameter):
                self.parameters[id(parameter)] = parameter, parameter.detach()
        for buffer in module._buffers.values():
            if buffer is not None:
                self._keep_tensor(buffer)
        if isinstance(module, torch.jit.ScriptModule) or _is_lazy(module):
            self.flags.append((module, module.training))
            return
        self.classes.append((module, type(module)))
        self.held.kept.append(Content(vars(module)))
        empty, keep = self.held.empty, self.held.add
        for value in vars(module).values():
            kind = type(value)
            if kind in HOOKS_AND_PARTS and not value:  # a dozen of them in every module
                empty.append(value)
            elif kind not in ATOMS:
                keep(value)

    def _keep_tensor(self, tensor: Tensor) -> None:
        if id(tensor) not in self.tensors and not nn.parameter.is_lazy(tensor):
            self.tensors[id(tensor)] = tensor, copy_of(tensor)

    def switch(self, mode: Mode) -> None:
        """Puts the model into ``mode``, if some part is not in it; notes the parameters that it writes to as it is switched."""
        wanted = mode == "train"
        if all(module.training is wanted for module in self.model.modules()):
            return
        if not answers_switching(self.model):
            self.model.train(wanted)
            return
        writes = Writes(parameter for parameter, _ in self.parameters.values())
        try:
            with writes:
                self.model.train(wanted)
        finally:
            known = {id(tensor) for tensor, _ in self.before}
            self.before += [pair for key, pair in writes.before.items() if key not in known]
            note_written(self.model, SWITCHING, set(writes.before))

    def restore(self) -> None:
        """Everything, in place."""
        for module, kind in self.classes:
            if type(module) is not kind:
                module.__class__ = kind
        self.held.put_back()
        for module, flag in self.flags:
            module.training = flag
        moved = {key for key, (parameter, alias) in self.parameters.items() if not _is_same_memory(parameter, alias)}
        if moved:
            note_written(self.model, SWITCHING, moved)
        with torch.no_grad():
            for key in moved:
                parameter, alias = self.parameters[key]
                parameter.data = alias
            self.gradients.restore()
            restore_values(self.before)
            for tensor, value in self.tensors.values():
                put_back(tensor, value)


def _is_lazy(module: nn.Module) -> bool:
    held = (*module._parameters.values(), *module._buffers.values())
    return any(t is not None and nn.parameter.is_lazy(t) for t in held)


def _is_same_memory(parameter: Tensor, alias: Tensor) -> bool:
    if parameter.layout is not torch.strided or parameter.is_meta:
        return True
    return (
        parameter.data_ptr() == alias.data_ptr()
        and parameter.shape == alias.shape
        and parameter.stride() == alias.stride()
        and parameter.dtype == alias.dtype
    )


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Afterwards the random generators of torch, Python and numpy are where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_all(seed: int) -> None:
    """Starts the random generators of torch, Python and numpy from ``seed``."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions on CUDA in float32 inside: torch lets cuDNN round their inputs to TensorFloat-32, which has ten bits."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
