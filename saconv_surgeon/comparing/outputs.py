"""The outputs of two models for the same inputs, and the layer from which on they differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.comparing.aligning import Match
from saconv_surgeon.comparing.weights import said_of
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.running.difference import Difference, Leaf, agreement, compare, computable
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import absorbed_parts
from saconv_surgeon.models.running.output_leaves import tensors
from saconv_surgeon.models.running.run import run
from saconv_surgeon.records import Divergence, OutputDiff

LARGEST = 512 * 2**20
"""Bytes of layer outputs that are kept at a time; if there are more, the models are run several times."""
Pair = tuple[str, str]
"""The path of a layer in A and in B."""


def compare_outputs(a: nn.Module, b: nn.Module, matches: Sequence[Match], inputs: Inputs, seed: int = 0) -> OutputDiff:
    """The outputs for ``inputs`` in eval mode, leaf by leaf; the cosine is over all values that are finite in both."""
    left, right = run(a, inputs, seed), run(b, inputs, seed)
    difference = compare(left, right)
    left, right = computable(left), computable(right)
    agreeing, compared = agreement(left, right, inputs.batch)
    pairs = _comparable(a, b, matches)
    diverging = [] if difference.bit_equal else _diverging(a, b, pairs, inputs, seed)
    return OutputDiff(
        bit_equal=difference.bit_equal,
        max_abs=difference.max_abs,
        max_rel=difference.max_rel,
        cosine=_cosine(left, right) if not difference.bit_equal else 1.0 if difference.tensors else None,
        tensors=difference.tensors,
        problems=difference.problems,
        top1=agreeing / compared if compared else None,
        top1_of=compared,
        diverging=tuple(diverging),
        layers_compared=len(pairs),
        not_finite=(*_not_finite(left, "A"), *_not_finite(right, "B")),
    )


def _cosine(a: list[Leaf], b: list[Leaf]) -> float | None:
    product, squares_a, squares_b = 0.0, 0.0, 0.0
    for (_, x), (_, y) in zip(a, b, strict=False):
        if isinstance(x, Tensor) and isinstance(y, Tensor) and x.is_floating_point() and x.shape == y.shape:
            p, q = x.double().flatten(), y.to(x.device).double().flatten()
            finite = p.isfinite() & q.isfinite()
            if bool((p.isfinite() != q.isfinite()).any()):
                return None
            p, q = p[finite], q[finite]
            product, squares_a, squares_b = (
                product + float(p @ q),
                squares_a + float(p @ p),
                squares_b + float(q @ q),
            )
    scale = math.sqrt(squares_a) * math.sqrt(squares_b)
    value = product / scale if scale else math.nan
    return min(max(value, -1.0), 1.0) if math.isfinite(value) else None


def _not_finite(output: list[Leaf], side: str) -> Iterator[str]:
    for name, leaf in output:
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
            nan, finite = int(leaf.isnan().sum()), int(leaf.isfinite().sum())
            if finite < leaf.numel():
                yield f"{name}: {said_of(nan, leaf.numel() - finite - nan)} in {side}"


# ------------------------------------------------------------------ layer by layer


def _comparable(a: nn.Module, b: nn.Module, matches: Sequence[Match]) -> list[Pair]:
    """The innermost parts that both have. A block that has absorbed what follows is compared with the last of that."""
    whole = [(m.a.path, m.b.path) for m in matches if m.a is not None and m.b is not None]
    once = {id(a.get_submodule(x)): (x, y) for x, y in reversed(whole) if _is_layer(a, x) and _is_layer(b, y)}
    pairs = dict(reversed(once.values()))  # a module with two paths is one layer, under the first of them
    uses = Counter(id(b.get_submodule(y)) for y in pairs.values())
    pairs = {
        x: y for x, y in pairs.items() if uses[id(b.get_submodule(y))] == 1
    }  # one that stands for two layers is left out
    home = {y: x for x, y in whole}
    for layer, absorbed in _absorbing(b):
        places = [home[place] for place in (layer, *absorbed) if place in home]
        for place in places:
            pairs.pop(place, None)
        if layer in home and absorbed[-1] in home:
            pairs[home[absorbed[-1]]] = layer
    for layer, absorbed in _absorbing(a):
        end = pairs.get(absorbed[-1])
        for place in (layer, *absorbed):
            pairs.pop(place, None)
        if end is not None:
            pairs[layer] = end
    return list(pairs.items())


def _is_layer(model: nn.Module, path: str) -> bool:
    module = model.get_submodule(path)
    return isinstance(module, ConvertedLayer) or not any(True for _ in module.children())


def _absorbing(model: nn.Module) -> Iterator[tuple[str, list[str]]]:
    for path, module in model.named_modules():
        if isinstance(module, ConvertedLayer) and module.absorbed:
            yield path, list(absorbed_parts(module.absorbed))


def _diverging(a: nn.Module, b: nn.Module, pairs: list[Pair], inputs: Inputs, seed: int) -> list[Divergence]:
    """The layers whose outputs differ, in the order in which A makes the first output that does."""
    sizes: dict[str, int] = {}
    order: dict[tuple[str, int], int] = {}
    others = dict(pairs)

    def measure(path: str, call: int, output: list[Tensor]) -> None:
        order[path, call] = len(order)
        sizes[path] = sizes.get(path, 0) + sum(t.numel() * t.element_size() for t in output)

    with _seen(a, others, measure):
        run(a, inputs, seed)
    found: list[tuple[int, Divergence]] = []
    for group in _groups(sizes):
        for path, (call, difference) in _differing({p: others[p] for p in group}, a, b, inputs, seed).items():
            found.append((order[path, call], Divergence(path, others[path], _finite(difference.max_rel))))
    return [divergence for _, divergence in sorted(found, key=lambda each: each[0])]


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """The layers in the order in which they run, as many together as may be kept at a time."""
    group: list[str] = []
    total = 0
    for path, size in sizes.items():
        if group and total + size > LARGEST:
            yield group
            group, total = [], 0
        group.append(path)
        total += size
    if group:
        yield group


def _differing(
    pairs: Mapping[str, str], a: nn.Module, b: nn.Module, inputs: Inputs, seed: int
) -> dict[str, tuple[int, Difference]]:
    """By path in A: the first call whose output is another in B, and how far apart they are in all calls."""
    kept: dict[tuple[str, int], list[Tensor]] = {}
    found: dict[str, tuple[int, Difference]] = {}
    names = {other: path for path, other in pairs.items()}

    def keep(path: str, call: int, output: list[Tensor]) -> None:
        kept[path, call] = [t.detach().clone() for t in output]

    def differ(other: str, call: int, output: list[Tensor]) -> None:
        path = names[other]
        wanted = kept.pop((path, call), None)
        if wanted is None:  # B calls it more often
            return
        left, right = ([(f"{path}[{i}]", t.detach()) for i, t in enumerate(side)] for side in (wanted, output))
        difference = compare(left, [(name, t.to(wanted[0].device) if wanted else t) for name, t in right])
        if not difference.bit_equal:
            first, worst = found.get(path, (call, Difference()))
            found[path] = first, worst | difference

    with _seen(a, pairs, keep):
        run(a, inputs, seed)
    with _seen(b, names, differ):
        run(b, inputs, seed)
    return found


def _seen(model: nn.Module, paths: Iterable[str], use: Callable[[str, int, list[Tensor]], None]) -> ExitStack:
    """Hands ``use`` the tensors that the modules at ``paths`` give, each time that one has run, and how often it had before."""
    calls: Counter[str] = Counter()

    def hook(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def seen(module: nn.Module, args: Any, output: Any) -> None:
            use(path, calls[path], tensors(output))
            calls[path] += 1

        return seen

    with ExitStack() as handles:  # taken off again if one of them cannot be put on
        for path in paths:
            module = model.get_submodule(path)
            if not isinstance(module, torch.jit.ScriptModule):
                handles.callback(module.register_forward_hook(hook(path)).remove)
        return handles.pop_all()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
