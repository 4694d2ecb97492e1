"""Models without weights: built without allocating them, run on shapes alone."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved_randomness
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.wrappers import eager

LARGEST_CONSTANT = 1 << 16
LARGEST_REAL = 1 << 26
"""Elements."""
FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)


def is_abstract(model: nn.Module) -> bool:
    """Whether ``model`` has parameters without values."""
    return any(p.is_meta for p in model.parameters())


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules that are built inside keep their parameters on the meta device: shapes and kinds, no memory.

    Everything else is made for real, since constructors compute with it: buffers, schedules, anchors.
    """
    register = nn.Module.register_parameter
    emptied: dict[int, tuple[weakref.ref[nn.Parameter], nn.Parameter]] = {}

    def on_meta(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(module, name, param)
        if param is None or param.is_meta or nn.parameter.is_lazy(param):
            return
        known = emptied.get(id(param))
        if known is None or known[0]() is not param:
            known = weakref.ref(param), _like(param, param.data.to("meta"))
            emptied[id(param)] = known
        module._parameters[name] = known[1]  # the same for the same parameter, so that tied weights stay tied

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign,assignment]
    try:
        with _LargeOnMeta():
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


class _LargeOnMeta(TorchFunctionMode):
    """Allocates nothing for what only a weight could be as large as: more memory than there is would be refused."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in FACTORIES and kwargs.get("device") is None:
            sizes = pytree.tree_leaves((args, kwargs.get("size")))
            if prod(size for size in sizes if isinstance(size, int)) > LARGEST_REAL:
                kwargs["device"] = "meta"
        return func(*args, **kwargs)


def drop_weights(model: nn.Module) -> None:
    """Puts the parameters of ``model`` on the meta device, in place; buffers and everything else that it holds stay."""
    stand_ins = {id(p): _like(p, p.detach().to("meta")) for p in model.parameters()}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = stand_ins[id(parameter)]


def _like(parameter: nn.Parameter, data: Tensor) -> nn.Parameter:
    """A parameter with ``data`` and everything else of ``parameter``."""
    made = nn.Parameter(data, requires_grad=parameter.requires_grad)
    vars(made).update(vars(parameter))
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, torch does not log the traceback of an operation that shapes alone do not admit: the caller gets its exception."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def faked(model: nn.Module, inputs: Inputs) -> Iterator[tuple[nn.Module, Inputs]]:
    """A copy of ``model``, in eval mode, and ``inputs``, whose tensors have shapes but no values; inside, nothing is computed.

    They pretend to be on the CPU, where tensors that a forward makes by itself are too. ``model`` is left as it was.

    Raises:
        Exception: What running the copy raises inside.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, Tensor] = {}

    def fake(t: Tensor) -> Tensor:
        with mode:
            if t.layout is not torch.strided:
                return mode.from_tensor(t)
            return torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cpu")

    for parameter in model.parameters():
        made[id(parameter)] = _like(parameter, fake(parameter))
    for buffer in model.buffers():
        made[id(buffer)] = fake(buffer)
    stand_in, fakes = copy_model(model, replacing=made).eval(), inputs.mapped(fake)
    with preserved_randomness(), eager(), _quiet(), mode, _ConstantsForReal():
        yield stand_in, fakes


class _ConstantsForReal(TorchDispatchMode):
    """Above a fake mode, carries out for real what depends on no fake tensor: strides, grids, schedules, which models read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(isinstance(t, FakeTensor) for t in given) or sum(t.numel() for t in given) > LARGEST_CONSTANT:
            return func(*args, **kwargs)
        if not given:
            fake = func(*args, **kwargs)
            if not isinstance(fake, FakeTensor) or fake.numel() > LARGEST_CONSTANT:
                return fake
        with unset_fake_temporarily():
            return func(*args, **kwargs)
