"""What each convolution is called with while the model runs: one example of each kind of call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import watched
from saconv_surgeon.models.running.state import preserved, seed_all
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.records import ConvArguments, ConvSite


@dataclass(frozen=True)
class CallKind:
    """Calls of convolutions that take the same time: the same arguments, and inputs of the same size, layout and dtype.

    ``autocast`` is the dtype if the model runs the convolution in ``torch.autocast``.
    """

    arguments: ConvArguments
    weight_strides: tuple[int, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    autocast: torch.dtype | None


@dataclass(frozen=True)
class LayerCalls:
    """By path, how often a layer is called in which way; and of each way one input, laid out as the model has it."""

    calls: Mapping[str, Counter[CallKind]]
    examples: Mapping[CallKind, Tensor]


def layer_calls(model: nn.Module, inputs: Inputs, sites: Iterable[ConvSite], seed: int = 0) -> LayerCalls:
    """Runs ``model`` once in eval mode, which is left as it was."""
    arguments = {site.path: site.arguments for site in sites}
    calls: dict[str, Counter[CallKind]] = {path: Counter() for path in arguments}
    examples: dict[CallKind, Tensor] = {}
    with preserved(model):
        subject = stand_in(model)

        def see(path: str, given: Tensor, output: Tensor) -> None:
            kind = _kind(subject.get_submodule(path), arguments[path], given)
            if kind is not None:
                calls[path][kind] += 1
                if kind not in examples:
                    examples[kind] = given.detach().clone()

        with preserved(subject), watched(subject, arguments, see), torch.no_grad():
            seed_all(seed)
            inputs.run(subject)
    return LayerCalls(calls, examples)


def _kind(conv: nn.Module, arguments: ConvArguments | None, given: Tensor) -> CallKind | None:
    weight = conv.weight
    if arguments is None or not isinstance(given, Tensor) or not isinstance(weight, Tensor):
        return None
    device = given.device.type
    cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return CallKind(arguments, weight.stride(), tuple(given.shape), given.stride(), given.dtype, given.device, cast)
