"""What other code has put on a convolution, so that another layer in its place would behave otherwise."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules import conv as torch_conv

from saconv_surgeon.convs.targets.target import Reason

BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")
HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", *BACKWARD_HOOKS),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


def changed_by_hand(module: nn.Module) -> Reason | None:
    """Things on a plain ``nn.Conv2d`` that a replacement would lose."""
    reason = patched(module)
    if reason is not None:
        return reason
    extra = {*module._parameters, *module._buffers, *module._modules} - {"weight", "bias"}
    if extra:
        return Reason("extra-state", f"it holds more than weight and bias: {', '.join(sorted(extra))}")
    return _unusable_tensors(module._parameters)


def patched(module: nn.Module) -> Reason | None:
    """Methods and hooks that other code has put on a convolution, or on all."""
    methods = patched_methods(module)
    if methods:
        return Reason("patched-forward", f"its {', '.join(methods)} was replaced on the object")
    replaced = [name for name in ("forward", "_conv_forward") if not _is_torchs(getattr(nn.Conv2d, name))]
    if replaced:
        return Reason("patched-class", f"nn.Conv2d.{replaced[0]} was replaced in this process")
    hooks = hooks_on(module)
    if hooks:
        return Reason("hooks", f"it has hooks that would be lost ({', '.join(hooks)})")
    return None


def patched_methods(module: nn.Module) -> tuple[str, ...]:
    """The methods of a module that were replaced on the object: ``forward``, ``_conv_forward``, ``train``, ``state_dict`` …"""
    own = [name for name, value in vars(module).items() if value is not None and name != "extra_repr"]
    return tuple(name for name in own if callable(getattr(type(module), name, None)))


def hooks_on(module: nn.Module) -> tuple[str, ...]:
    """The kinds of hooks that a module has, as ``forward_hooks``."""
    return tuple(name.strip("_") for name in HOOKS if getattr(module, name, None))


CARRIED_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", *BACKWARD_HOOKS, "_is_full_backward_hook"),
)
"""What a module keeps its hooks on calls in."""


def carry_hooks(old: nn.Module, new: nn.Module) -> None:
    """Puts the forward and backward hooks of ``old`` on ``new``, which has none and computes the same."""
    vars(new).update({name: vars(old)[name] for name in CARRIED_HOOKS if name in vars(old)})


def _unusable_tensors(parameters: Mapping[str, nn.Parameter | None]) -> Reason | None:
    weight = parameters.get("weight")
    if weight is None:
        return Reason("no-parameter", "its weight is not a parameter (a buffer, a plain tensor)")
    for name, tensor in parameters.items():
        if tensor is not None and type(tensor) is not nn.Parameter:
            return Reason("tensor-class", f"its {name} is a {type(tensor).__name__}, not a plain parameter")
    if not weight.is_floating_point():
        return Reason("dtype", f"its weight is {weight.dtype}, not a floating type")
    if not _is_dense(weight) or weight.numel() == 0:
        found = "empty" if _is_dense(weight) else f"of layout {weight.layout}"
        return Reason("layout", f"its weight is {found}, not a dense kernel")
    return None


def _is_dense(tensor: Tensor) -> bool:
    return str(tensor.layout) == "torch.strided"


def _is_torchs(method: object) -> bool:
    """Whether a method of ``nn.Conv2d`` is the one that torch defines: its code lies in the file of the class."""
    known = torch_conv._ConvNd.reset_parameters.__code__.co_filename
    code = getattr(method, "__code__", None)
    return code is not None and code.co_filename == known
