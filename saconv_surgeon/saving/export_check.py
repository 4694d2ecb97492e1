"""Runs an exported file on inputs of several sizes before it gets its name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from saconv_surgeon.errors import ModelError, first_line
from saconv_surgeon.models.exported.read_program import Ranges, ranges_of
from saconv_surgeon.models.running.difference import compare
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import tensors
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.saving.export_engines import Engine

AGREEMENT = 1e-4
"""How far, relative to the largest output, another engine may be from torch in float32: it adds in its own order."""


def run_again(engine: Engine, model: nn.Module, program: ExportedProgram, inputs: Inputs, path: Path) -> Iterator[str]:
    """Runs the file on inputs of several sizes and compares it with the model.

    Raises:
        ModelError: It cannot be run, or computes something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            runner = engine.open(path)
        except Exception as error:
            other = ".pt" if path.suffix == ".pt2" else ".pt2"
            raise ModelError(
                f"the file cannot be opened by {engine.name} ({first_line(error)}); save to a {other} file, or fold in float32"
            ) from error
        worst, ran = 0.0, 0
        for given in _varied(program, inputs):
            wanted = _outputs(model, given)
            try:
                found = runner(given)
            except Exception as error:
                raise ModelError(
                    f"{engine.name} cannot run the file on {list(given.shapes)} ({type(error).__name__}: {first_line(error)})"
                ) from error
            difference = compare([(str(i), t.cpu()) for i, t in enumerate(wanted)], list(_numbered(found)))
            if not difference.within(_agreement(wanted)):
                what = "; ".join(difference.problems) or f"{difference.max_rel:.1e} relative"
                raise ModelError(
                    f"{engine.name} computes something else from the file: {what}, on {list(given.shapes)}"
                )
            worst, ran = max(worst, difference.max_rel), ran + 1
    size = f"{ran} size{'s' if ran > 1 else ''} of input"
    yield f"run again with {engine.name} on {size}: {'bit-identical' if worst == 0 else f'within {worst:.1e} relative'}"
    yield from engine.remarks(path)


def _numbered(found: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((str(i), t.cpu()) for i, t in enumerate(found))


def _agreement(outputs: Sequence[Tensor]) -> float:
    return max([AGREEMENT, *(10 * torch.finfo(t.dtype).eps for t in outputs if t.is_floating_point())])


def _outputs(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    with preserved(model):
        return tensors(inputs.run(model))


def runs(model: nn.Module, inputs: Inputs) -> bool:
    """Whether ``model`` runs on ``inputs``."""
    try:
        _outputs(model, inputs)
    except Exception:  # the model does not take this size
        return False
    return True


def _varied(program: ExportedProgram, inputs: Inputs) -> Iterator[Inputs]:
    """The inputs, and others of a size that the program says it takes."""
    yield inputs
    ranges = ranges_of(program)
    if "input[0] dimension 0" in ranges:
        yield from (inputs.with_batch(n) for n in (1, 3) if n != inputs.batch)
    larger = larger_inputs(inputs)
    if larger is not None and all(_within(n, ranges.get(f"input[0] dimension {d}")) for d, n in _sides(larger)):
        yield larger


def _sides(inputs: Inputs) -> list[tuple[int, int]]:
    """The last two dimensions of the only tensor, and their sizes."""
    return list(enumerate(inputs.tensors[0].shape))[-2:]


def _within(size: int, limits: tuple[int, int | None] | None) -> bool:
    return limits is not None and (limits[1] is None or size <= limits[1])


def larger_inputs(inputs: Inputs) -> Inputs | None:
    """With maps that are larger by 64 pixels; None if the input is not a single image tensor."""
    first = next(iter(inputs.tensors), None)
    if first is None or len(inputs.tensors) != 1 or first.dim() < 3 or not first.is_floating_point():
        return None
    shape = (*first.shape[:-2], first.shape[-2] + 64, first.shape[-1] + 64)
    grown = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(first.device, first.dtype)
    return inputs.mapped(lambda t: grown)


def sizes_taken(ranges: Ranges) -> str:
    """Which sizes of the inputs the file leaves open: ``input[0] dimensions 0, 2 (from 9), 3 (from 9)``."""
    if not ranges:
        return "takes inputs of this size only"
    found: dict[str, list[str]] = {}
    for name, (low, high) in ranges.items():
        tensor, _, dimension = name.partition(" dimension ")
        # torch takes 0 and 1 for sizes apart and writes 2 for the smallest of a free one; a batch of 1 has been run
        limits = "" if low <= 2 and high is None else f" (from {low})" if high is None else f" ({low} to {high})"
        found.setdefault(tensor, []).append(dimension + limits)
    each = (f"{tensor} dimension{'s' if len(free) > 1 else ''} {', '.join(free)}" for tensor, free in found.items())
    return f"takes other sizes: {'; '.join(each)}"
