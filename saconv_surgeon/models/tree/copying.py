"""Copies of models: complete ones to convert, and cheap ones to trace."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.parameter_extras import carry_to_copy
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.tree.rebinding import Rebound
from saconv_surgeon.models.tree.writes import WRITTEN, written_by_runs

COPIED_LAYOUTS = (torch.strided, torch.sparse_coo)
"""Those of tensors that ``copy.deepcopy`` can copy; of parameters, the first alone."""
SHARDED = ("FSDPModule", "FullyShardedDataParallel")
M = TypeVar("M", bound=nn.Module)


def copy_model(model: M, *, share_parameters: bool = False, replacing: Mapping[int, Tensor] | None = None) -> M:
    """A deep copy that shares nothing with ``model``, or only its parameters, which need the memory. What other code has put on
    parameters, gradient hooks and attributes, is on those of the copy too.

    ``replacing`` gives, by ``id``, other tensors to put in the places of some.

    Functions that the model holds and that call its modules, as a lambda over ``self`` does, call those of the copy.

    ``copy.deepcopy`` refuses tensors with a gradient history, which modules keep in their attributes (the old
    ``weight_norm`` does); here their values are copied.

    Raises:
        ModelError: The model holds something that cannot be copied.
    """
    memo: dict[int, object] = _empty_dicts(model)
    rebound = Rebound(model)
    memo |= rebound.made
    for tensor in _attribute_tensors(model.modules()):
        if not tensor.is_leaf:
            memo[id(tensor)] = tensor.detach().clone()
    memo |= _copies_of_opaque(model)
    if share_parameters:
        written = {id(p) for p in written_by_runs(model)}
        memo |= {id(p): p for module in rebound.modules for p in module.parameters() if id(p) not in written}
    memo |= {id(t): t.detach().clone() for t in _inference_buffers(model)}
    memo |= replacing or {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own attributes while it copies them
            copied = copy.deepcopy(model, memo)
            rebound.fill(memo)
    except Exception as error:
        sharded = next((path for path, module in model.named_modules() if _is_sharded(module)), None)
        if sharded is not None:
            raise ModelError(
                f"{type(model).__name__} is sharded (FSDP, at {sharded or 'the root'!r}) and cannot be copied, and surgery works "
                "on a copy; convert the plain model, and shard the converted one"
            ) from error
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}), and surgery works on a copy; "
            "take the attribute that cannot be copied out of the model, or give the class a __deepcopy__"
        ) from error
    carry_to_copy(model, copied, memo)
    if not share_parameters and model in WRITTEN:
        WRITTEN[copied] = dict(WRITTEN[model])
    own = {id(module) for module in model.modules()}
    shared = next((path for path, module in copied.named_modules() if id(module) in own), None)
    if shared is not None:
        raise ModelError(
            f"the {type(copied.get_submodule(shared)).__name__} at {shared or 'the root'!r} is its own copy: its __deepcopy__ "
            "returns itself, and surgery would change your model; take that method out, or put the module in afterwards"
        )
    return copied


def _is_sharded(module: nn.Module) -> bool:
    """Whether the parameters of ``module`` are spread over processes. By name, since importing the classes takes long."""
    return any(base.__name__ in SHARDED for base in type(module).__mro__)


def stand_in(model: M) -> M:
    """A copy to run instead of ``model``, with the same parameters: what a run leaves in attributes is thrown away with it.

    Parameters that runs of it write to are its own.

    A model that cannot be copied stands in for itself.
    """
    try:
        return copy_model(model, share_parameters=True)
    except ModelError:
        return model


def _empty_dicts(model: nn.Module) -> dict[int, object]:
    """Copies, by ``id``, of the dozen dicts of hooks that every module has: ``deepcopy`` spends most of its time on them."""
    return {
        id(value): OrderedDict()
        for module in model.modules()
        for value in vars(module).values()
        if type(value) is OrderedDict and not value
    }


def _copies_of_opaque(model: nn.Module) -> dict[int, object]:
    """Copies, by ``id``, of tensors without a storage (sparse, nested, of MKL-DNN), which ``copy.deepcopy`` refuses."""
    copies: dict[int, object] = {}
    for tensor in chain(model.parameters(), model.buffers(), _attribute_tensors(model.modules())):
        is_parameter = isinstance(tensor, nn.Parameter)
        opaque = tensor.layout not in (COPIED_LAYOUTS[:1] if is_parameter else COPIED_LAYOUTS) or tensor.is_nested
        if type(tensor) in (Tensor, nn.Parameter) and opaque:
            copied = tensor.detach().clone()
            copies[id(tensor)] = nn.Parameter(copied, tensor.requires_grad) if is_parameter else copied
    return copies


def _inference_buffers(model: nn.Module) -> Iterable[Tensor]:
    """Tensors made in inference mode, which nothing may write to outside of it."""
    return [t for t in model.buffers() if t.is_inference()]


def _attribute_tensors(modules: Iterable[nn.Module]) -> Iterable[Tensor]:
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Tensor):
                yield value
