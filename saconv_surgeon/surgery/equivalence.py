"""The proof that surgery changed no prediction: both models run on the same inputs, their outputs compared leaf by leaf."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.running.difference import Difference, Leaf, compare
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import absorbed_parts, follower, watched
from saconv_surgeon.models.running.redrawing import digest_of
from saconv_surgeon.models.running.run import run
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.running.trial_inputs import Redraw, trial_of
from saconv_surgeon.records import Equivalence, Mode

TOLERANCE = 1e-5
TRIALS = 3
NOISE_RUNS = 6
NOISE_MARGIN = 3.0


@dataclass(frozen=True)
class Following:
    """By path: the modules to apply to a layer's output, in each model, before the two can be compared."""

    original: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()


def prove(
    original: nn.Module,
    converted: nn.Module,
    inputs: Inputs,
    *,
    paths: Sequence[str],
    trials: int = TRIALS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    mode: Mode = "eval",
    following: Mapping[str, Following] | None = None,
    redraw: Redraw | None = None,
    on_trial: Callable[[int], None] = lambda done: None,
) -> Equivalence:
    """Compares the outputs of both models. Both are left as they were.

    The first trial takes ``inputs`` as they are, the others the same shapes with other values, drawn by kind or by ``redraw``.
    What the model cannot be run on is not drawn anew; ``different_inputs`` says how many there really were. Every run starts from
    the same state of buffers and random generators. A model that then still differs from itself is recognised by running it
    again; its outputs may move by three times its own noise, and every converted layer must equal the convolution it replaced
    on the inputs that it really sees. If outputs are empty, as a detector's are that finds nothing, they prove nothing:
    then the outputs of the model's parts, down to two levels, are compared with them.

    Args:
        original: The model as it was.
        converted: The model after surgery.
        inputs: What to run them on.
        paths: The converted layers, for naming the first one that moves.
        trials: How many inputs to try.
        tolerance: The largest ``max_rel`` that passes if the outputs are not equal to the bit.
        seed: For the random inputs and for random numbers drawn by the models.
        mode: ``"train"`` runs the models as in training, where parts may run that otherwise do not.
        following: For layers whose output was another module's in the original; by default those that have absorbed what
            followed them.
        redraw: Makes the inputs of the other trials: see :data:`~saconv_surgeon.models.running.trial_inputs.Redraw`.
        on_trial: Called after each trial with the number done.

    Raises:
        UsageError: No trials, or ``redraw`` gives inputs of another structure.
        UserCodeError: ``redraw`` raises, or the model on what it gives.
    """
    if trials < 1:
        raise UsageError(f"{trials} trials prove nothing; at least one is needed")
    worst, noise = Difference(), Difference()
    following = _absorbing(converted) if following is None else following
    seen: set[str] = set()
    for trial in range(trials):
        batch, reference = trial_of(original, inputs, trial, seed, mode, redraw)
        seen.add(digest_of(batch.given))
        if trial == 0:
            noise = _noise(original, batch, reference, seed, mode)
        worst |= compare(reference, run(converted, batch, seed, mode))
        if _has_empty(reference):
            moved_in = frozenset(place for path, b in following.items() for place in (path, *b.original, *b.converted))
            pair = [run(model, batch, seed, mode, parts_but=moved_in) for model in (original, converted)]
            worst |= compare(pair[0], pair[1])
        on_trial(trial + 1)
    passed, problems, moved = worst.within(tolerance), worst.problems, None
    if not worst.bit_equal or not noise.bit_equal:
        moves = layer_differences(original, converted, inputs, paths, seed, mode, following)
        moved = next((path for path, difference in moves.items() if not difference.bit_equal), None)
        if not noise.bit_equal:
            layers_equal = all(difference.within(tolerance) for difference in moves.values())
            passed = layers_equal and _within_noise(worst, noise, tolerance)
        elif moved is None:
            problems += ("every converted layer by itself equals its convolution: something else looks at the layers",)
    parameter = next(iter(original.parameters()), torch.empty(0))
    return Equivalence(
        passed=passed,
        bit_equal=worst.bit_equal,
        max_abs=worst.max_abs,
        max_rel=worst.max_rel,
        tolerance=tolerance,
        trials=trials,
        different_inputs=len(seen),
        tensors=worst.tensors,
        deterministic=noise.bit_equal,
        noise_max_rel=None if noise.bit_equal else noise.max_rel,
        first_moved=moved,
        problems=problems,
        dtype=str(parameter.dtype).removeprefix("torch."),
        device=str(parameter.device),
        mode=mode,
        redrawn=redraw is not None,
    )


def worse_of(a: Equivalence, b: Equivalence) -> Equivalence:
    """One record of two proofs of the same pair: ``a`` with whatever is worse in ``b``."""
    return replace(
        a,
        passed=a.passed and b.passed,
        bit_equal=a.bit_equal and b.bit_equal,
        max_abs=max(a.max_abs or 0.0, b.max_abs or 0.0),
        max_rel=max(a.max_rel or 0.0, b.max_rel or 0.0),
        trials=a.trials + b.trials,
        different_inputs=max((n for n in (a.different_inputs, b.different_inputs) if n is not None), default=None),
        deterministic=a.deterministic and b.deterministic,
        first_moved=a.first_moved or b.first_moved,
        problems=tuple(dict.fromkeys(a.problems + b.problems)),
    )


def layer_differences(
    original: nn.Module,
    converted: nn.Module,
    inputs: Inputs,
    paths: Iterable[str],
    seed: int,
    mode: Mode = "eval",
    following: Mapping[str, Following] | None = None,
) -> dict[str, Difference]:
    """How far each converted layer is from its convolution, with what is ``following`` either, on the convolution's inputs.

    In the order of execution.
    """
    found: dict[str, Difference] = {}
    following = _absorbing(converted) if following is None else following

    def differ(path: str, given: Tensor, output: Tensor) -> None:
        after = following.get(path, Following())
        layer = follower(converted, (path, *after.converted))
        wanted = follower(original, after.original)(output)
        found[path] = found.get(path, Difference()) | compare([(path, wanted)], [(path, layer(given))])

    with preserved(converted, mode), watched(original, paths, differ):
        run(original, inputs, seed, mode)
    return found


def unreached(
    converted: nn.Module, inputs: Inputs, expected_calls: Mapping[str, int], mode: Mode = "eval", seed: int = 0
) -> tuple[str, ...]:
    """The converted layers that are called less often than the convolutions they replaced.

    A model that holds a convolution outside its module tree as well (in a plain list, a closure) still calls the old one.
    """
    with _counting(converted, expected_calls) as calls:
        run(converted, inputs, seed, mode)
    return tuple(path for path, n in expected_calls.items() if calls[path] != n)


@contextmanager
def _counting(model: nn.Module, paths: Iterable[str]) -> Iterator[Counter[str]]:
    calls: Counter[str] = Counter()

    def count(path: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            calls[path] += 1

        return hook

    with ExitStack() as handles:
        for path in paths:
            handles.callback(model.get_submodule(path).register_forward_hook(count(path)).remove)
        yield calls


def _absorbing(model: nn.Module) -> dict[str, Following]:
    """In the original, a layer is followed by the modules that its counterpart in ``model`` has absorbed."""
    layers = {path: m for path, m in model.named_modules() if isinstance(m, ConvertedLayer) and m.absorbed}
    return {path: Following(original=absorbed_parts(layer.absorbed)) for path, layer in layers.items()}


def _has_empty(output: list[Leaf]) -> bool:
    tensors = [leaf for _, leaf in output if isinstance(leaf, Tensor)]
    return not tensors or any(t.numel() == 0 for t in tensors)


def _noise(model: nn.Module, inputs: Inputs, reference: list[Leaf], seed: int, mode: Mode) -> Difference:
    """How far ``model`` is from itself. One more run shows whether it is at all; only then are there others."""
    runs = [reference, run(model, inputs, seed, mode)]
    noise = compare(*runs)
    if noise.bit_equal:
        return noise
    runs += [run(model, inputs, seed, mode) for _ in range(NOISE_RUNS - 2)]
    for a, b in combinations(runs, 2):
        noise |= compare(a, b)
    return noise


def _within_noise(moved: Difference, noise: Difference, tolerance: float) -> bool:
    """Whether outputs moved no further than the model moves by itself; noise that has no distance allows everything."""
    if noise.problems:
        return True
    if moved.problems:
        return False
    allowed = max(tolerance, NOISE_MARGIN * noise.max_rel)
    return moved.max_rel <= allowed or moved.max_abs <= NOISE_MARGIN * noise.max_abs
