"""One run of a model: the leaves of what it returns, or of what its parts return. The model is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.running.difference import Leaf
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import leaves
from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.models.tree.writes import WRITTEN, observed_writes
from saconv_surgeon.records import Mode

PART_DEPTH = 2
"""Levels of the module tree whose outputs are recorded."""


def run(
    model: nn.Module, inputs: Inputs, seed: int, mode: Mode = "eval", *, parts_but: Set[str] | None = None
) -> list[Leaf]:
    """The leaves of the output for ``inputs``; random generators start from ``seed``, the state is restored.

    With ``parts_but``, the leaves of what the model's parts return instead, in the order in which they do, those places left out.
    """
    wants_parts = parts_but is not None
    with preserved(model, mode), _recording(model if wants_parts else None, parts_but or frozenset()) as recorded:
        seed_all(seed)
        output = inputs.run(model)
        return recorded if wants_parts else _copied(output, "output")


def rehearse(model: nn.Module, inputs: Inputs, mode: Mode = "eval") -> None:
    """Runs ``model``, unless that was done, to see whether it writes to its parameters: then later runs restore them.

    What it raises is left for the run that matters.
    """
    if mode not in WRITTEN.get(model, {}) and not any(p.is_meta for p in model.parameters()):
        with suppress(Exception), preserved(model, mode), observed_writes(model, mode):
            inputs.run(model)


@contextmanager
def _recording(model: nn.Module | None, left_out: Set[str]) -> Iterator[list[Leaf]]:
    """What the parts of ``model`` return, down to two levels; nothing for None."""
    recorded: list[Leaf] = []

    def record(path: str) -> Callable[..., None]:
        return lambda module, args, output: recorded.extend(_copied(output, path))

    with ExitStack() as handles:
        inside = {id(p) for m in _layers(model) for p in m.modules() if p is not m}  # no part of the original has these
        for path, module in model.named_modules() if model is not None else ():
            hookable = not isinstance(module, torch.jit.ScriptModule)
            wanted = path and path not in left_out and path.count(".") < PART_DEPTH
            if wanted and id(module) not in inside and hookable:
                handles.callback(module.register_forward_hook(record(path)).remove)
        yield recorded


def _layers(model: nn.Module | None) -> list[nn.Module]:
    return [] if model is None else [module for module in model.modules() if isinstance(module, ConvertedLayer)]


def _copied(output: Any, name: str) -> list[Leaf]:
    """The leaves of ``output``, copied: a model may return its own buffers, which are put back, or work in place."""
    return [(path, leaf.detach().clone() if isinstance(leaf, Tensor) else leaf) for path, leaf in leaves(output, name)]
