"""The parts of a switchable atrous convolution that a layer can do without: its contexts, or its wide branch and switch."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Parts = Literal["all", "contexts", "branches"]
"""``contexts`` has no wide branch and no switch, ``branches`` has no contexts."""
CONTEXT_KEYS = ("pre_context.weight", "pre_context.bias", "post_context.weight", "post_context.bias")
BRANCH_KEYS = ("weight_diff", "switch.weight", "switch.bias")


def parse_parts(text: str) -> Parts:
    """``text`` if it names parts.

    Raises:
        ValueError: It does not.
    """
    for parts in get_args(Parts):
        if text == parts:
            return parts
    raise ValueError(f"there is no such choice; there is: {', '.join(get_args(Parts))}")


def has_contexts(parts: str) -> bool:
    """Whether a layer with these parts has a context before and after its convolution."""
    return parts != "branches"


def has_branches(parts: str) -> bool:
    """Whether a layer with these parts has a wide branch, with its ``weight_diff``, and a switch."""
    return parts != "contexts"


def absent_keys(parts: str) -> tuple[str, ...]:
    """The keys of a whole layer's state dict that a layer with these parts does not have."""
    return (*(() if has_contexts(parts) else CONTEXT_KEYS), *(() if has_branches(parts) else BRANCH_KEYS))


def value_at_rest(key: str) -> float:
    """What all elements of a new parameter are while the layer computes its plain convolution."""
    return 1.0 if key == "switch.bias" else 0.0


def absent_at_rest(layer: nn.Conv2d, parts: str) -> dict[str, Tensor]:
    """What the state dict of ``layer``, which has these parts, lacks of a whole one, with the values of a new layer."""
    c_in, c_out = layer.in_channels, layer.out_channels
    shapes = {
        "weight_diff": tuple(layer.weight.shape),
        "switch.weight": (1, c_in, 1, 1),
        "switch.bias": (1,),
        "pre_context.weight": (c_in, c_in, 1, 1),
        "pre_context.bias": (c_in,),
        "post_context.weight": (c_out, c_out, 1, 1),
        "post_context.bias": (c_out,),
    }
    return {key: layer.weight.detach().new_full(shapes[key], value_at_rest(key)) for key in absent_keys(parts)}


def is_value_at_rest(key: str, value: Tensor) -> bool:
    """Whether ``value`` of the parameter ``key`` changes nothing; True of a tensor without values."""
    return value.is_meta or not bool((value != value_at_rest(key)).any())


def fit_to_parts(
    state: MutableMapping[str, Tensor], prefix: str, parts: str, shapes: Mapping[str, torch.Size]
) -> list[str]:
    """Makes the state dict of a layer with some parts, in place, one of a layer with others that computes the same.

    What the layer does not have is taken out. If there is one kind of parts in the state dict and not the other, as a layer
    without it writes them, the other is put in with the values of a new layer. The state dict of a convolution has neither,
    and is left as it is.

    Args:
        state: The names start with ``prefix``.
        prefix: Of the layer.
        parts: Those of the layer that will load it.
        shapes: Those of the layer's parameters.

    Returns:
        The keys of parts that the layer does not have and that are not at rest; nothing is changed then.
    """
    outside = [key for key in absent_keys(parts) if prefix + key in state]
    lost = [key for key in outside if not is_value_at_rest(key, state[prefix + key])]
    kernel = state.get(prefix + "weight")
    if lost or kernel is None:
        return lost
    there = [any(prefix + key in state for key in keys) for keys in (CONTEXT_KEYS, BRANCH_KEYS)]
    for key in outside:
        del state[prefix + key]
    if any(there):
        for keys, given in zip((CONTEXT_KEYS, BRANCH_KEYS), there, strict=True):
            for key in keys if not given else ():
                if key in shapes:
                    state[prefix + key] = kernel.new_full(shapes[key], value_at_rest(key))
    return []
