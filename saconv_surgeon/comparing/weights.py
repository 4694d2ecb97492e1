"""The tensors of two models, by name; names are aligned as the modules are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set

import torch
from torch import Tensor, nn

from saconv_surgeon.comparing.aligning import Match
from saconv_surgeon.comparing.parts_of_model import kernel_of, parts_of
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.tree.tensor_values import same_values
from saconv_surgeon.records import WeightChange, WeightDiff


def compare_weights(a: nn.Module, b: nn.Module, matches: Sequence[Match]) -> WeightDiff:
    """The state dicts. A relative change is |b-a| / |a| in the 2-norm.

    A converted layer's weight is compared, as the kernel that it convolves with, with that of the convolution it stands for; a
    norm that a block has absorbed, with itself.
    """
    left, right = _tensors_of(a), _tensors_of(b)
    names = _names_in_b(a, b, matches, left)
    kernels = _kernels(a, b, matches)
    both = {name: other for name, other in names.items() if other in right}
    reshaped, changed, equal = [], [], 0
    for name, other in both.items():
        x, y = kernels.get(name, (left[name], right[other]))
        said = other if other != name else None
        if not (x.is_nested or y.is_nested) and x.shape != y.shape:
            where = name if said is None else f"{name} ({said} in B)"
            reshaped.append(f"{where}: {tuple(x.shape)} and {tuple(y.shape)}")
        elif _same(x, y):
            equal += 1
        else:
            relative, why = _relative_change(x, y)
            changed.append(WeightChange(name, relative, said, name in kernels, why))
    learnt = {name for name, _ in a.named_parameters(remove_duplicate=False)}
    changed.sort(key=lambda w: (w.name not in learnt, -(math.inf if w.relative is None else w.relative)))
    met = set(both.values())
    return WeightDiff(
        equal=equal,
        changed=tuple(changed),
        only_in_a=tuple(name for name in left if name not in both),
        only_in_b=tuple(name for name in right if name not in met),
        reshaped=tuple(reshaped),
        not_finite=(*_not_finite(left, "A"), *_not_finite(right, "B")),
    )


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _names_in_b(a: nn.Module, b: nn.Module, matches: Sequence[Match], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What each tensor of A is called in B, whether B has it or not; those of parts that B lacks are left out."""
    places = {m.a.path: m.b.path for m in matches if m.a is not None and m.b is not None}
    home = {new: old for old, new in places.items()}
    for layer, absorbed in _absorbed(b):
        places |= {
            home[place]: f"{layer}.{name}" for name, place in absorbed.items() if place in home and layer in home
        }
    for layer, absorbed in _absorbed(a):
        places |= {f"{layer}.{name}": places[old] for name, old in absorbed.items() if old in places}
    parts = {path for path, _ in parts_of(a)} | places.keys()
    found: dict[str, str] = {}
    for name in tensors:
        owner = _owner(name, parts)
        if owner in places:
            rest = name[len(owner) + 1 :] if owner else name
            found[name] = f"{places[owner]}.{rest}" if places[owner] else rest
    return found


def _owner(name: str, parts: Set[str]) -> str:
    """The innermost part that a tensor belongs to."""
    path = name.rpartition(".")[0]
    while path and path not in parts:
        path = path.rpartition(".")[0]
    return path


def _absorbed(model: nn.Module) -> Iterator[tuple[str, Mapping[str, str]]]:
    for path, module in model.named_modules():
        if isinstance(module, ConvertedLayer) and module.absorbed:
            yield path, module.absorbed


def _kernels(a: nn.Module, b: nn.Module, matches: Sequence[Match]) -> dict[str, tuple[Tensor, Tensor]]:
    """The kernels that are compared instead of weights if one side is a converted layer, by the weight's name in A."""
    found = {}
    modules_a, modules_b = (dict(model.named_modules(remove_duplicate=False)) for model in (a, b))
    for match in matches:
        if match.a is None or match.b is None:
            continue
        left, right = modules_a[match.a.path], modules_b[match.b.path]
        if isinstance(left, ConvertedLayer) != isinstance(right, ConvertedLayer):
            kernels = kernel_of(left), kernel_of(right)
            if kernels[0] is not None and kernels[1] is not None:
                name = f"{match.a.path}.weight" if match.a.path else "weight"
                found[name] = (kernels[0].detach(), kernels[1].detach())
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    a, b = _dense(a), _dense(b)
    return same_values(a, b if b.is_nested else b.to(a.device))


def _relative_change(a: Tensor, b: Tensor) -> tuple[float | None, str | None]:
    """|b-a| / |a|, or why there is none."""
    try:
        left, right = _dense(a), _dense(b).to(a.device)
        left, right = (t if t.is_complex() else t.double() for t in (left, right))
        change, scale = float((right - left).norm()), float(left.norm())
    except RuntimeError:
        return None, f"of a kind that torch cannot calculate with ({'nested' if a.is_nested else a.dtype})"
    if not (math.isfinite(change) and math.isfinite(scale)):
        return None, "with NaN or infinities"
    return (change / scale, None) if scale else (None, "from zero") if change else (0.0, None)


def _not_finite(tensors: Mapping[str, Tensor], side: str) -> Iterator[str]:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex():
            values = _dense(tensor)
            if values.is_nested:
                parts = {f"{name}[{i}]": part for i, part in enumerate(values.unbind())}
                yield from _not_finite(parts, side)
                continue
            try:
                values = values.float() if values.element_size() == 1 else values  # torch cannot compare 8-bit values
                nan, finite = int(values.isnan().sum()), int(values.isfinite().sum())
            except RuntimeError:  # nor convert all of them
                continue
            if finite < values.numel():
                yield f"{name}: {said_of(nan, values.numel() - finite - nan)} in {side}"


def said_of(nan: int, infinite: int) -> str:
    """``3 NaN, 1 infinite``."""
    return ", ".join(f"{n} {what}" for n, what in ((nan, "NaN"), (infinite, "infinite")) if n)


def _dense(t: Tensor) -> Tensor:
    t = t.detach()
    t = t.dequantize() if t.is_quantized else t
    return t.to_dense() if t.layout is not torch.strided else t
