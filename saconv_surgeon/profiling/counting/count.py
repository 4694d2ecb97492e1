"""What one forward pass costs: fvcore counts on a trace, ``FlopCounterMode`` checks it by counting what is carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch
from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.errors import UsageError, first_line
from saconv_surgeon.models.running.abstract import faked, is_abstract
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.copying import stand_in
from saconv_surgeon.profiling.counting.dispatch_engine import Dispatched, count_by_dispatch
from saconv_surgeon.profiling.counting.fvcore_engine import Traced, count_by_trace
from saconv_surgeon.profiling.counting.higher_order import as_python
from saconv_surgeon.profiling.counting.user_formulas import broken_formulas
from saconv_surgeon.records import Counts, CrossCheck, LayerCost

T = TypeVar("T")
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
COMPARED = ("macs", "flops", "activations")


def count(model: nn.Module, inputs: Inputs) -> Counts:
    """What one forward pass in eval mode costs. The model is left as it was: modes, buffers, hooks, random state.

    The layer rows are exclusive, each module without its children, and add up to the totals; a converted layer is one row.
    Attention is counted as its two matrix products, whichever kernel computes it; of functions that operations call, those that
    are called; generators in the output to their end. If the two engines disagree, what was
    carried out counts: a trace drops what leads to no output, and does not look into autograd functions. A model on the meta
    device is counted without weights.

    Returns:
        The counts; None for each figure that could not be had, with the reason as ``note``.

    Raises:
        Exception: Whatever the model raises when it is run on these inputs.
    """
    with _fast_path_off(), as_python():
        if is_abstract(model):
            with faked(model, inputs) as (empty, fakes), torch.inference_mode():
                shapes = _dispatch(empty, fakes)
            note = "counted by FlopCounterMode on shapes alone: there are no weights to trace with"
            return _counts(model, None, shapes, note)
        refusal: str | None
        seen, failure = _attempt(lambda: _on_stand_in(model, inputs, _dispatch, torch.inference_mode))
        if seen is None:  # it may want gradients of something, which inference mode does not have
            seen, _ = _attempt(lambda: _on_stand_in(model, inputs, _dispatch, torch.no_grad))
        if seen is not None and seen.left_by_exceptions:
            traced, refusal = None, f"{seen.left_by_exceptions[0] or 'the model'} raises, and the model goes on"
        else:
            traced, refusal = _attempt(lambda: _on_stand_in(model, inputs, count_by_trace, torch.no_grad))
        if seen is None and traced is None:
            with preserved(model):
                inputs.run(model)  # if the model itself cannot run, that is what is raised
        return _counts(model, traced, seen, _note(model, traced, seen, refusal, failure))


def cross_check(traced: Traced, seen: Dispatched) -> CrossCheck:
    """What each engine found."""
    pairs = {name: (int(traced.total[name]), int(seen.total[name])) for name in COMPARED}
    return CrossCheck(
        agrees=all(a == b for a, b in pairs.values()),
        fvcore_macs=pairs["macs"][0],
        flop_counter_macs=pairs["macs"][1],
        differing=tuple(name for name, (a, b) in pairs.items() if a != b),
    )


# ------------------------------------------------------------------ running the engines


def _dispatch(model: nn.Module, inputs: Inputs) -> Dispatched:
    return count_by_dispatch(model, inputs, [*model.parameters(), *model.buffers(), *inputs.tensors])


def _on_stand_in(
    model: nn.Module,
    inputs: Inputs,
    engine: Callable[[nn.Module, Inputs], T],
    level: Callable[[], AbstractContextManager[object]],
) -> T:
    """Runs ``engine`` on a copy that shares the weights, so that whatever a run leaves in attributes is thrown away.

    A model that cannot be copied is run itself, without inference mode, whose tensors it could keep.
    """
    # the model too: its copy may call modules that both share
    with preserved(model):
        subject = stand_in(model)
        level = torch.no_grad if subject is model else level
        with preserved(subject), _hooks_restored(subject), level():
            return engine(subject, inputs.copied())


def _attempt(run: Callable[[], T]) -> tuple[T | None, str | None]:
    """What ``run`` gives, or what it raised; a formula of the user's that is broken is a mistake to be told."""
    try:
        return run(), None
    except UsageError:
        raise
    except Exception as error:
        return None, f"{type(error).__name__}: {first_line(error)[:200]}"


def _note(
    model: nn.Module, traced: Traced | None, seen: Dispatched | None, refusal: str | None, failure: str | None
) -> str | None:
    if traced is None:
        why = f"fvcore cannot trace this model ({refusal})"
        other = f", nor can FlopCounterMode follow it ({failure})"
        return f"not counted: {why}{other}" if seen is None else f"counted by FlopCounterMode: {why}"
    if seen is None:
        return (
            f"not cross-checked, and without launches and bytes: FlopCounterMode cannot follow this model ({failure})"
        )
    check = cross_check(traced, seen)
    if check.agrees:
        return None
    unknown = sorted({*traced.uncounted, *traced.unreadable} - set(seen.uncounted))
    if traced.opaque:
        inside = f"does not look into {', '.join(traced.opaque)}"
    elif unknown:
        inside = f"shows {', '.join(unknown)} as one operation of unknown cost"
    elif any(p.is_complex() for p in model.parameters()):
        inside = "takes complex convolutions apart into real ones"
    else:
        inside = "drops what leads to no output, or the model runs differently while it is traced"
    return f"counted by FlopCounterMode: fvcore's trace {inside} ({', '.join(check.differing)} differ)"


# ------------------------------------------------------------------ the record


def _counts(model: nn.Module, traced: Traced | None, seen: Dispatched | None, note: str | None) -> Counts:
    check = cross_check(traced, seen) if traced is not None and seen is not None else None
    by_dispatch = seen is not None and (check is None or not check.agrees)
    if seen is not None:
        by_module, total, uncounted = seen.by_module, seen.total, seen.uncounted
    elif traced is not None:
        by_module, total, uncounted = (
            traced.by_module(path for path, _ in model.named_modules()),
            traced.total,
            traced.uncounted,
        )
    else:
        return Counts(None, None, None, None, tuple(_rows(model, {}, ())), note=note)
    figures = (*COMPARED, "ops", "bytes", "calls") if seen is not None else COMPARED
    return Counts(
        macs=int(total["macs"]),
        flops=int(total["flops"]),
        fvcore_flops=int(traced.total["fvcore"]) if traced is not None and not traced.stumbled else None,
        activations=int(total["activations"]),
        layers=tuple(_rows(model, by_module, figures)),
        uncounted_ops=uncounted,
        engine="FlopCounterMode" if by_dispatch else "fvcore",
        note=note,
        ops=int(total["ops"]) if seen is not None else None,
        bytes_moved=int(total["bytes"]) if seen is not None else None,
        peak_live_bytes=seen.peak_live_bytes if seen is not None else None,
        cross_check=check,
        counted_by_formulas=seen.by_formulas if seen is not None else {},
        broken_formulas=broken_formulas(),
    )


def _rows(model: nn.Module, by_module: Mapping[str, Counter[str]], figures: tuple[str, ...]) -> Iterator[LayerCost]:
    """One row for each module that has parameters of its own or does something itself."""
    costs = _with_parts(model, by_module)
    charged: set[int] = set()
    layer: str | None = None  # the converted layer that the walk is in: its parts are in its row
    for path, module in model.named_modules():
        if layer is not None and _is_inside(path, layer):
            continue
        together = isinstance(module, ConvertedLayer)
        layer = path if together else None
        parameters = 0
        for parameter in module.parameters(recurse=together):
            if id(parameter) not in charged:
                charged.add(id(parameter))
                parameters += parameter.numel()
        own = costs.get(path, Counter())
        if parameters or any(own[name] for name in figures if name != "calls"):
            known = {name: int(own[name]) for name in figures}
            yield LayerCost(
                path,
                type(module).__name__,
                parameters,
                macs=known.get("macs"),
                flops=known.get("flops"),
                activations=known.get("activations"),
                ops=known.get("ops"),
                bytes_moved=known.get("bytes"),
                calls=known.get("calls"),
                settings=_settings(module),
                converted=together,
            )


def _with_parts(model: nn.Module, by_module: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """The costs by module, those of the parts of a converted layer added to the layer's own."""
    costs = {path: Counter(own) for path, own in by_module.items()}
    for layer, module in model.named_modules():
        if isinstance(module, ConvertedLayer):
            for part, _ in module.named_modules(prefix=layer):
                if part != layer and part in costs:
                    costs.setdefault(layer, Counter()).update(
                        {k: n for k, n in costs.pop(part).items() if k != "calls"}
                    )
    return costs


def _is_inside(path: str, layer: str) -> bool:
    return path.startswith(f"{layer}." if layer else "") and path != layer


# ------------------------------------------------------------------ leaving no trace


@contextmanager
def _hooks_restored(model: nn.Module) -> Iterator[None]:
    """fvcore leaves its hooks on the model if forward raises."""
    kept = [(getattr(module, name), dict(getattr(module, name))) for module in model.modules() for name in HOOKS]
    try:
        yield
    finally:
        for hooks, before in kept:
            for key in [key for key in hooks if key not in before]:
                del hooks[key]


@contextmanager
def _fast_path_off() -> Iterator[None]:
    """``nn.MultiheadAttention`` and its encoder layers run as written, not as one operation that hides everything."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _settings(module: nn.Module) -> str:
    """The part of a module's ``repr`` between the brackets; empty if changed attributes keep it from being made."""
    try:
        return module.extra_repr()
    except Exception:  # torch's takes len() of a padding that may be set to one number
        return ""
