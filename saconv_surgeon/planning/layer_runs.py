"""Single layers, run by themselves on one input: forward, or forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.layer_inputs import CallKind
from saconv_surgeon.profiling.timing.alternating_runs import Run
from saconv_surgeon.profiling.timing.training_step import saved_bytes


def forward(layer: Callable[[Tensor], Tensor], kind: CallKind, given: Tensor) -> Run:
    """One forward, without gradients."""

    def run() -> None:
        with torch.no_grad(), _autocast(kind):
            layer(given)

    return Run([run])


def step(layer: nn.Module, kind: CallKind, given: Tensor) -> Run:
    """Forward and backward in train mode, of a copy: the gradients of the layer are left alone."""
    trained, wanted = copy.deepcopy(layer).train(), _wanting(given)
    for parameter in trained.parameters():
        parameter.requires_grad_(True)

    def prepare() -> None:
        trained.zero_grad(set_to_none=True)
        wanted.grad = None

    def run() -> None:
        with torch.enable_grad(), _autocast(kind):
            total = trained(wanted).sum()
        total.backward()

    return Run([run], prepare)


def saved(layer: nn.Module, kind: CallKind, given: Tensor) -> int:
    """Bytes that autograd keeps from a forward in train mode."""
    trained = copy.deepcopy(layer).train()
    for parameter in trained.parameters():
        parameter.requires_grad_(True)
    with torch.enable_grad(), _autocast(kind):
        return saved_bytes(trained, Inputs((_wanting(given),)))


def _wanting(given: Tensor) -> Tensor:
    return given.detach().clone().requires_grad_(True)


def _autocast(kind: CallKind) -> AbstractContextManager[object]:
    return nullcontext() if kind.autocast is None else torch.autocast(kind.device.type, dtype=kind.autocast)
