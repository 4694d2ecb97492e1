"""The inputs and outputs of single layers while a model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import BLOCK_PARTS
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.models.tree.copying import stand_in

Hook = Callable[[str, Tensor, Tensor], None]
"""Called with the path of a layer, its input and its output."""


class _Enough(BaseException):
    """Ends a run that has shown what was wanted; no ``except Exception`` of a model catches it."""


def absorbed_parts(absorbed: Mapping[str, str]) -> tuple[str, ...]:
    """The places from which a layer absorbed its parts, in the order in which they run."""
    return tuple(absorbed[name] for name in BLOCK_PARTS if name in absorbed)


def follower(model: nn.Module, paths: Iterable[str]) -> Callable[[Tensor], Tensor]:
    """The modules of ``model`` at ``paths`` in a sequence."""
    parts = [model.get_submodule(path) for path in paths]

    def follow(output: Tensor) -> Tensor:
        for part in parts:
            output = part(output)
        return output

    return follow


@contextmanager
def watched(model: nn.Module, paths: Iterable[str], hook: Hook) -> Iterator[None]:
    """Calls ``hook`` whenever one of the layers at ``paths`` has run."""

    def watch(path: str) -> Callable[..., None]:
        def seen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            hook(path, args[0] if args else next(iter(kwargs.values())), output)

        return seen

    with ExitStack() as handles:
        for path in paths:
            handle = model.get_submodule(path).register_forward_hook(watch(path), with_kwargs=True)
            handles.callback(handle.remove)
        yield


def first_calls(model: nn.Module, inputs: Inputs, path: str, calls: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Input and output of the layer at ``path`` in its first ``calls`` calls, in eval mode; the run ends with them.

    A copy is run, which shares the parameters: what a run that ends early leaves in attributes is thrown away with it. A model
    that cannot be copied runs to its end.
    """
    found: list[tuple[Tensor, Tensor]] = []

    def keep(path: str, given: Tensor, output: Tensor) -> None:
        found.append((given.clone(), output.clone()))
        if len(found) == calls and subject is not model:
            raise _Enough

    with preserved(model):  # the model too: its copy may call modules that both share
        subject = stand_in(model)
        with preserved(subject), watched(subject, [path], keep), suppress(_Enough), torch.no_grad():
            seed_all(seed)
            inputs.run(subject)
    return found[:calls]
