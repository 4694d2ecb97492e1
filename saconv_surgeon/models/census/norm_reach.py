"""Whether a norm sees what a node of a graph computes, before the next layer that has weights."""

from __future__ import annotations

from torch import fx, nn

from saconv_surgeon.convs.known_norms_and_activations import NORM_FUNCTIONS, is_activation, is_norm
from saconv_surgeon.models.census.census import CONVOLUTIONS


def norms_in_reach(graph: fx.Graph, part: nn.Module, *, is_whole: bool) -> dict[fx.Node, bool | None]:
    """For every node of ``graph``, which is that of ``part``: True if a norm sees its result, on one way at least.

    Activations, sums, pooling and all other operations without weights are passed through; a scale or a shift that a norm takes
    out after them does not count for less. False if every way ends at a layer with weights or at the output of the model. None
    if a way leads out of ``part``, which is not the whole model, or into a module of which nothing is known, and no other way
    to a norm.
    """
    found: dict[fx.Node, bool | None] = {}
    for node in reversed(graph.nodes):
        ways = [_seen_by(user, part, found, is_whole) for user in node.users]
        found[node] = True if True in ways else None if None in ways else False
    return found


def _seen_by(user: fx.Node, part: nn.Module, found: dict[fx.Node, bool | None], is_whole: bool) -> bool | None:
    if user.op == "output":
        return False if is_whole else None
    if is_norm_node(user, part):
        return True
    module = module_of(user, part)
    if module is None or is_activation(module) or next(module.parameters(), None) is None:
        return found[user]
    is_one_layer = isinstance(module, CONVOLUTIONS) or not any(True for _ in module.children())
    return False if is_one_layer else None


def is_norm_node(node: fx.Node, part: nn.Module) -> bool:
    """Whether ``node`` calls a norm, as a module or as a function."""
    module = module_of(node, part)
    return function_name(node) in NORM_FUNCTIONS if module is None else is_norm(module)


def module_of(node: fx.Node, part: nn.Module) -> nn.Module | None:
    """The module that ``node`` calls, if it calls one."""
    return part.get_submodule(str(node.target)) if node.op == "call_module" else None


def function_name(node: fx.Node) -> str:
    """The name of the function or method that ``node`` calls; empty if it calls none."""
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""
