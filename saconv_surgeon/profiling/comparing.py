"""Two models side by side: structure, weights, outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.comparison import Leaf, compare
from saconv_surgeon.models.inputs import Inputs
from saconv_surgeon.records import OutputDiff, StructureChange, WeightChange, WeightDiff
from saconv_surgeon.surgery.equivalence import run


def compare_structure(a: nn.Module, b: nn.Module) -> tuple[StructureChange, ...]:
    """The modules that are in one model only or are set up differently, in the order of the tree."""
    parts_a, parts_b = _own_descriptions(a), _own_descriptions(b)
    changes = []
    for path in dict.fromkeys([*parts_a, *parts_b]):
        left, right = parts_a.get(path), parts_b.get(path)
        if left != right:
            change = "removed" if right is None else "added" if left is None else "changed"
            changes.append(StructureChange(path, change, left, right))  # type: ignore[arg-type]
    return tuple(changes)


def compare_weights(a: nn.Module, b: nn.Module) -> WeightDiff:
    """The state dicts, by name. A relative change is |b-a| / |a| in the 2-norm."""
    left, right = _tensors_of(a), _tensors_of(b)
    both = [name for name in left if name in right]
    reshaped = [name for name in both if left[name].shape != right[name].shape]
    differing = [
        WeightChange(name, _relative_change(left[name], right[name]))
        for name in both
        if name not in reshaped and not _same(left[name], right[name])
    ]
    differing.sort(key=lambda w: float("inf") if w.relative is None else w.relative, reverse=True)
    return WeightDiff(
        equal=len(both) - len(reshaped) - len(differing),
        changed=tuple(differing),
        only_in_a=tuple(name for name in left if name not in right),
        only_in_b=tuple(name for name in right if name not in left),
        reshaped=tuple(f"{name}: {tuple(left[name].shape)} and {tuple(right[name].shape)}" for name in reshaped),
    )


def compare_outputs(a: nn.Module, b: nn.Module, inputs: Inputs, seed: int = 0) -> OutputDiff:
    """The outputs for ``inputs`` in eval mode, leaf by leaf; the cosine is over all floating values together."""
    left, right = run(a, inputs, seed), run(b, inputs, seed)
    difference = compare(left, right)
    return OutputDiff(
        bit_equal=difference.bit_equal,
        max_abs=difference.max_abs,
        max_rel=difference.max_rel,
        cosine=_cosine(left, right),
        tensors=difference.tensors,
        problems=difference.problems,
    )


def _own_descriptions(model: nn.Module) -> dict[str, str]:
    """Each module by path, as its class and its own settings: what ``repr`` shows, without the children.

    A converted layer is one part: its contexts and switch come and go with it.
    """
    described: dict[str, str] = {}
    layer = None
    for path, module in model.named_modules(remove_duplicate=False):
        if layer is not None and path.startswith(layer):
            continue
        layer = (f"{path}." if path else "") if isinstance(module, ConvertedLayer) else None
        described[path] = f"{type(module).__name__}({module.extra_repr()})"
    return described


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and bool(((a == b.to(a.device)) | (a.isnan() & b.to(a.device).isnan())).all())


def _relative_change(a: Tensor, b: Tensor) -> float | None:
    left, right = a.double(), b.double().to(a.device)
    change, scale = float((right - left).norm()), float(left.norm())
    ratio = change / scale if scale else float("inf") if change else 0.0
    return ratio if torch.isfinite(torch.tensor(ratio)) else None


def _cosine(a: list[Leaf], b: list[Leaf]) -> float | None:
    pairs = [
        (x.double().flatten(), y.double().flatten())
        for (_, x), (_, y) in zip(a, b, strict=False)
        if isinstance(x, Tensor) and isinstance(y, Tensor) and x.is_floating_point() and x.shape == y.shape
    ]
    if not pairs:
        return None
    left, right = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    scale = float(left.norm() * right.norm())
    value = float(left @ right) / scale if scale else float("nan")
    return value if torch.isfinite(torch.tensor(value)) else None
