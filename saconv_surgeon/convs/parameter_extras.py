"""What other code has put on a parameter: gradient hooks and plain attributes. Copies and replacements take it along."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from saconv_surgeon.convs.converted import INHERITED

HOOK_KINDS = (
    ("_backward_hooks", "register_hook"),
    ("_post_accumulate_grad_hooks", "register_post_accumulate_grad_hook"),
)


def extras_of(parameter: nn.Parameter) -> tuple[str, ...]:
    """What is on a parameter, for messages: ``("gradient hooks", "_no_weight_decay")``."""
    hooks = any(getattr(parameter, kind, None) for kind, _ in HOOK_KINDS)
    return (*(("gradient hooks",) if hooks else ()), *vars(parameter))


def carry_extras(
    old: nn.Parameter, new: nn.Parameter, copied: Callable[[Any], Any] = lambda value: value, *, hooks: bool = True
) -> None:
    """Puts the hooks and attributes of ``old`` on ``new`` as well; what ``new`` has already stays. Values are ``copied``."""
    if old is new:
        return
    for name, value in vars(old).items():
        if name not in vars(new):
            setattr(new, name, copied(value))
    for kind, register in HOOK_KINDS if hooks else ():
        there = getattr(old, kind, None)
        if not there or getattr(new, kind, None):
            continue
        needed = new.requires_grad
        new.requires_grad_(True)  # hooks can be put on nothing else, and stay when it is frozen afterwards
        for hook in there.values():
            getattr(new, register)(hook)
        new.requires_grad_(needed)


def carry_to_layer(old: nn.Module, new: nn.Module, path: str) -> None:
    """Puts what is on the kernel and the bias of ``old`` on those of ``new``, which replaces it at ``path``.

    Warns of what is lost: a parameter of another shape is not the same one.
    """
    for name in INHERITED:
        before, after = old._parameters.get(name), new._parameters.get(name)
        if before is None or not extras_of(before):
            continue
        if after is not None and after.shape == before.shape:
            carry_extras(before, after)
        else:
            lost = ", ".join(extras_of(before))
            warnings.warn(
                f"{path}.{name} had {lost}, which a {type(new).__name__} has no parameter for: lost", stacklevel=2
            )


def carry_to_folded(old: nn.Module, new: nn.Module) -> None:
    """Puts the attributes of kernel and bias on those of the folded ``new``, if it has them; hooks too if it can be trained."""
    for name in INHERITED:
        before, after = old._parameters.get(name), new._parameters.get(name)
        if before is not None and after is not None and after.shape == before.shape:
            carry_extras(before, after, hooks=after.requires_grad)


def carry_to_copy(model: nn.Module, copied: nn.Module, memo: dict[int, Any]) -> None:
    """Puts what is on the parameters of ``model`` on those of its deep copy, made with ``memo``: torch copies values alone."""

    def of_copy(value: Any) -> Any:
        try:
            return copy.deepcopy(value, memo)
        except Exception:  # a handle, a lock: shared, as the hooks are
            return value

    for parameter in model.parameters():
        twin = memo.get(id(parameter))
        if type(parameter) is nn.Parameter and type(twin) is nn.Parameter:
            carry_extras(parameter, twin, of_copy)
