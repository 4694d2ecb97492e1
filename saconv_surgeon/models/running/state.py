"""Running a model without leaving a trace on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from saconv_surgeon.models.tree.wrappers import eager
from saconv_surgeon.records import Mode


@contextmanager
def preserved(model: nn.Module, mode: Mode = "eval") -> Iterator[None]:
    """In ``mode`` and eager inside; afterwards the model and the random state are as they were.

    Restored are every module's own training flag (a frozen norm in a training model stays frozen), the values of the buffers,
    in place and only if they changed, and the random state of torch, Python and numpy.
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, {name: (b, None if b is None else b.detach().clone()) for name, b in module._buffers.items()})
        for module in model.modules()
    ]
    try:
        with preserved_randomness(), eager(model):
            model.train(mode == "train")
            yield
    finally:
        for module, flag in flags:
            module.training = flag
        with torch.no_grad():
            for module, kept in buffers:
                for name in [name for name, _ in module._buffers.items() if name not in kept]:
                    del module._buffers[name]
                for name, (buffer, value) in kept.items():
                    module._buffers[name] = buffer  # forward may have put another in its place
                    if buffer is not None and value is not None:
                        _put_back(buffer, value)


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


def _put_back(buffer: torch.Tensor, value: torch.Tensor) -> None:
    """Gives ``buffer`` its ``value`` again, if it has another; compared first, so that an equal one is not written to."""
    if buffer.is_meta:
        return
    if buffer.layout is not torch.strided:
        buffer.copy_(value)
    elif buffer.shape != value.shape:
        buffer.resize_(value.shape).copy_(value)
    elif not _same(buffer, value):
        buffer.copy_(value)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions on CUDA in float32 inside: torch lets cuDNN round their inputs to TensorFloat-32, which has ten bits."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
