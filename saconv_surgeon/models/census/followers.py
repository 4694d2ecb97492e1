"""What follows each convolution, read from torch.fx graphs of the largest parts of a model that can be traced."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from saconv_surgeon.convs.known_norms_and_activations import (
    ACTIVATION_FUNCTIONS,
    is_activation,
)
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.census.census import CONVOLUTIONS, Census, Given
from saconv_surgeon.models.census.fx_tracers import ConvTracer, SizedTracer
from saconv_surgeon.models.census.norm_reach import function_name, is_norm_node, module_of, norms_in_reach
from saconv_surgeon.models.running.state import preserved, preserved_randomness
from saconv_surgeon.models.running.user_gradients import gradients_kept
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.paths import joined, paths_of
from saconv_surgeon.records import ConvSite, Mode


@dataclass(frozen=True)
class Context:
    """What a convolution alone feeds, as ``path (Type)``."""

    norm: str | None
    activation: str | None


@dataclass(frozen=True)
class Traced:
    """What a call in a graph shows: the convolution, what follows it there, the traced part, and how often that was called."""

    path: str
    context: Context
    reaches_norm: bool | None
    root: str
    calls: int


def add_context(model: nn.Module, census: Census, mode: Mode = "eval") -> tuple[ConvSite, ...]:
    """The census' sites, with what follows each if a graph shows it; ``found_by`` then names the traced part.

    ``model`` is not touched: a copy is traced, since tracing leaves its placeholders behind in attributes.
    """
    found: dict[str, list[Traced]] = {}
    for traced in _traced_contexts(model, census, mode):
        found.setdefault(traced.path, []).append(traced)
    return tuple(_with_context(site, found[site.path]) if site.path in found else site for site in census.sites)


def census_of_trace(model: nn.Module) -> Census | None:
    """What a trace of ``model`` says that a run would show: which convolutions and norms are called, and how often. Maps have no
    sizes. None if it cannot be traced whole, or takes optional arguments: a trace would show one of the two cases only.
    """
    with preserved(model):
        skeleton = copy_model(model, share_parameters=True)
    try:
        arguments_of = inspect.signature(skeleton.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.default is not p.empty or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in arguments_of):
        return None
    graph = _trace(ConvTracer(), skeleton, {})
    if graph is None:
        return None
    first = {path: names[0] for names in paths_of(model).values() for path in names}
    called = [node for node in graph.nodes if node.op == "call_module"]
    calls = Counter(first[str(node.target)] for node in called)
    arguments: dict[str, dict[str, Any]] = {
        first[str(node.target)]: {str(i): Given() for i, _ in enumerate(node.all_input_nodes)} for node in called
    }
    read = {first.get(str(node.target).rpartition(".")[0], "") for node in graph.nodes if node.op == "get_attr"}
    convolutions = dict.fromkeys(first[str(node.target)] for node in _conv_nodes(graph, skeleton))
    return Census(
        sites=tuple(ConvSite(path, type(model.get_submodule(path)).__name__, calls[path], ()) for path in convolutions),
        calls={**calls, "": 1},
        calls_within={"": Counter({path: calls[path] for path in convolutions})},
        arguments=arguments,
        weights_used_elsewhere=dict.fromkeys(read, ""),
    )


def _with_context(site: ConvSite, seen: Sequence[Traced]) -> ConvSite:
    """``site`` with what follows it in every call; nothing if calls differ, or some were in parts that cannot be traced."""
    all_seen = sum(traced.calls for traced in seen) == site.calls
    agreed = all_seen and len({traced.context for traced in seen}) == 1
    reaches = {traced.reaches_norm for traced in seen}
    context, root = seen[0].context if agreed else Context(None, None), seen[0].root
    return replace(
        site,
        norm=context.norm,
        activation=context.activation,
        reaches_norm=reaches.pop() if all_seen and len(reaches) == 1 else None,
        found_by=f"fx, traced from {root!r}" if root else "fx",
    )


def _traced_contexts(model: nn.Module, census: Census, mode: Mode) -> Iterator[Traced]:
    try:
        with preserved(model, mode):
            skeleton = copy_model(model, share_parameters=True)
    except ModelError:
        return
    first = {path: names[0] for names in paths_of(model).values() for path in names}
    for root, graph in _graphs(skeleton, census):
        part = skeleton.get_submodule(root)
        reach = norms_in_reach(graph, part, is_whole=not root)
        for node in _conv_nodes(graph, part):
            path = first[joined(root, str(node.target))]
            yield Traced(path, _context_of(node, part, root), reach[node], root, census.calls[root])


def _graphs(skeleton: nn.Module, census: Census) -> Iterator[tuple[str, fx.Graph]]:
    """The graphs of the largest parts that can be traced and whose calls agree with the census."""
    pending, seen = [("", skeleton)], set()
    while pending:
        path, module = pending.pop()
        if id(module) in seen or isinstance(module, CONVOLUTIONS):
            continue
        seen.add(id(module))
        if census.calls.get(path, 0) and path in census.calls_within:
            arguments = census.arguments.get(path, {})
            tracers = (
                ConvTracer,
                lambda given=arguments: SizedTracer(_examples(given)),
            )  # the second is slower: only if needed
            graphs = (_trace(tracer(), module, arguments) for tracer in tracers)
            graph = next((g for g in graphs if g is not None and _agrees(g, module, path, census)), None)
            if graph is not None:
                yield path, graph
                continue
        pending += [(joined(path, name), child) for name, child in module.named_children()]


def _trace(tracer: fx.Tracer, module: nn.Module, arguments: Mapping[str, Any]) -> fx.Graph | None:
    """The graph of ``module``, or None: tracing runs the user's forward on placeholders, which can raise anything."""
    concrete = {name: value for name, value in arguments.items() if not isinstance(value, Given)}
    try:
        with warnings.catch_warnings(), torch.no_grad(), preserved_randomness(), gradients_kept(module):
            warnings.simplefilter("ignore")
            return tracer.trace(module, concrete or None)
    except (Exception, RecursionError):
        return None


def _examples(arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in arguments.items() if isinstance(value, Given)}
    return {name: value.example for name, value in given.items() if value.example is not None}


def _agrees(graph: fx.Graph, module: nn.Module, path: str, census: Census) -> bool:
    """Whether every convolution is called as often in the graph as it was in the census."""
    names = paths_of(module)
    counted: dict[str, int] = {}
    for node in _conv_nodes(graph, module):
        name = joined(path, names[id(module.get_submodule(str(node.target)))][0])
        counted[name] = counted.get(name, 0) + census.calls[path]
    watched = {p: n for p, n in census.calls_within[path].items() if "::" not in p}
    # the census knows a module by its first path in the whole model, which may lie outside this part
    return sorted(counted.values()) == sorted(watched.values())


def _conv_nodes(graph: fx.Graph, module: nn.Module) -> Iterator[fx.Node]:
    for node in graph.nodes:
        if node.op == "call_module":
            leaf = module.get_submodule(str(node.target))
            if isinstance(leaf, CONVOLUTIONS):
                yield node


def _context_of(node: fx.Node, part: nn.Module, root: str) -> Context:
    norm = activation = None
    follower = _only_user(node, part)
    if follower is not None and is_norm_node(follower, part):
        norm = _describe(follower, part, root)
        follower = _only_user(follower, part)
    if follower is not None and _is_activation(follower, part):
        activation = _describe(follower, part, root)
    return Context(norm, activation)


def _only_user(node: fx.Node, part: nn.Module) -> fx.Node | None:
    if len(node.users) != 1:
        return None
    user = next(iter(node.users))
    module = module_of(user, part)
    if type(module) is nn.Identity and not (
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ):
        return _only_user(user, part)
    return user


def _is_activation(node: fx.Node, part: nn.Module) -> bool:
    module = module_of(node, part)
    if module is None:
        return function_name(node) in ACTIVATION_FUNCTIONS
    return is_activation(module)


def _describe(node: fx.Node, part: nn.Module, root: str) -> str:
    module = module_of(node, part)
    return function_name(node) if module is None else f"{joined(root, str(node.target))} ({type(module).__name__})"
