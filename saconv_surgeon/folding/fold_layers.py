"""Every layer folded in a copy of the model, together with the norm after it if that can be folded too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils import parametrize

from saconv_surgeon.convs.affine import Affine, remainder
from saconv_surgeon.convs.converted import NORM, ConvertedLayer
from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.convs.parameter_extras import carry_to_folded
from saconv_surgeon.models.census.census import Census, take_census
from saconv_surgeon.models.census.followers import add_context, census_of_trace
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.layer_io import absorbed_parts
from saconv_surgeon.models.tree.absorbed_modules import give_back, places_left
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.paths import paths_of
from saconv_surgeon.models.tree.wrappers import rebind
from saconv_surgeon.records import ConvSite, FoldedLayer
from saconv_surgeon.surgery.absorption_rules import followed_by_norm
from saconv_surgeon.surgery.changed_by_hand import BACKWARD_HOOKS, changed_by_hand, hooks_on, patched_methods
from saconv_surgeon.surgery.equivalence import Following
from saconv_surgeon.surgery.own_convolutions import take_over_published
from saconv_surgeon.surgery.rewriting import protect, unprotect

AT_REST = "the layer never moved and keeps its norm, as it was before surgery"
WITHOUT_NORMS = "the model cannot be run without its norms"
NO_GRAPH = "no graph shows its norm; give example_inputs"
Foldable = ConvertedLayer | nn.Conv2d


@dataclass(frozen=True, eq=False)
class FoldedTree:
    """A folded model, what was done to each layer, and what has to follow layers before they can be compared.

    ``calls`` says how often each changed layer runs on the inputs, if that is known.
    """

    model: nn.Module
    layers: tuple[FoldedLayer, ...]
    following: Mapping[str, Following]
    calls: Mapping[str, int] = field(default_factory=dict)


def fold_layers(
    model: nn.Module,
    inputs: Inputs | None,
    *,
    fold_norms: bool = False,
    leave: Mapping[str, str] | None = None,
    leave_norms: str | None = None,
) -> FoldedTree:
    """A copy of ``model`` in eval mode whose converted layers are folded. ``model`` is left as it was.

    Args:
        model: A model after surgery, trained or not.
        inputs: What a run shows which norm follows which layer on. Without them a trace of the root has to show it.
        fold_norms: Also fold the norms after layers that never moved, and after plain convolutions.
        leave: Layers that stay as they are, by path, and why.
        leave_norms: Why no norm is folded, if none may be.
    """
    copied = take_over_published(copy_model(model))
    copied.eval()  # which a model may answer with anything
    unprotect(copied)
    untouched = dict(leave or {}) | {path: why for path, layer in _layers(copied) if (why := why_untouchable(layer))}
    absorbed: dict[str, dict[str, str]] = {}
    for path, layer in _layers(copied):
        places = None if path in untouched or not layer.absorbed else places_left(copied, layer)
        if places is not None:
            # a norm that sees only a part of what the layer computes stays in it, until it is in the kernel
            stays = {NORM} if not layer.norm_is_last and not layer.is_at_rest() else set()
            absorbed[path] = {name: place for name, place in places.items() if name not in stays}
            give_back(copied, layer, absorbed[path])
    norms = _Norms(
        copied, inputs, {path: parts[NORM] for path, parts in absorbed.items() if NORM in parts}, leave_norms
    )
    work = _Work(copied, norms, fold_norms, untouched)
    rows, following = [], {}
    for path, module in list(_in_order(copied, norms.sites)):
        if not isinstance(module, ConvertedLayer) and not (fold_norms and type(module) is nn.Conv2d):
            continue
        row, norm = work.fold(path, module)
        if isinstance(module, ConvertedLayer) or norm is not None:
            rows.append(row)
        if row.changed:
            following[path] = _following(absorbed.get(path, {}), norm)
    calls = {row.path: norms.sites[row.path].calls for row in rows if row.changed and row.path in norms.sites}
    if work.root is not copied:
        return FoldedTree(work.root, tuple(rows), following, calls)
    if inputs is None and leave_norms is None and any(row.norm for row in rows) and census_of_trace(copied) is None:
        return fold_layers(model, None, fold_norms=fold_norms, leave=leave, leave_norms=WITHOUT_NORMS)
    rebind(copied)
    protect(copied)
    return FoldedTree(copied, tuple(rows), following, calls)


def why_untouchable(module: nn.Module) -> str | None:
    """Why a module cannot be replaced by another that computes the same; None if it can."""
    if isinstance(module, ConvertedLayer):
        if module.is_folded:
            return "it is folded already"
        if _computes_otherwise(type(module)):
            return f"{type(module).__name__} has a forward of its own"
        if any(isinstance(part, ConvertedLayer) for part in module.modules() if part is not module):
            return "it holds other converted layers"
    for part in module.modules():
        if parametrize.is_parametrized(part):
            return "its tensors are parametrised"
        hooks = [name for name in hooks_on(part) if f"_{name}" not in BACKWARD_HOOKS]  # a folded model is not trained
        if hooks:
            return f"it has {hooks[0].replace('_', ' ')}, which would be lost"
        patched = patched_methods(part)
        if patched:
            return f"its {patched[0]} has been replaced"
    return None


def _computes_otherwise(kind: type[ConvertedLayer]) -> bool:
    """Whether a class changes what its base computes, but not how that is folded."""
    if kind.folded is ConvertedLayer.folded:
        return False
    first = {
        name: next((i for i, base in enumerate(kind.__mro__) if name in vars(base)), len(kind.__mro__))
        for name in ("forward", "computed", "folded")
    }
    return min(first["forward"], first["computed"]) < first["folded"] or kind.__call__ is not nn.Module.__call__


class _Work:
    """Folds one layer after the other, in place."""

    def __init__(self, model: nn.Module, norms: _Norms, fold_norms: bool, untouched: Mapping[str, str]) -> None:
        self.model, self.norms, self.fold_norms, self.untouched = model, norms, fold_norms, untouched
        self.paths = paths_of(model)
        self.root = model

    def fold(self, path: str, layer: Foldable) -> tuple[FoldedLayer, str | None]:
        """What became of ``layer``, and the path of the norm that went into it."""
        name = type(layer).__name__
        why = self.untouched.get(path) or (None if isinstance(layer, ConvertedLayer) else _changed(layer))
        if why is not None:
            return FoldedLayer(path, name, name, reason=why), None
        norm_path, affine, stays = self._norm(path, layer)
        at_rest = isinstance(layer, ConvertedLayer) and layer.is_at_rest()
        reader = self.norms.reader(path)
        if reader is not None and not (at_rest and affine is None):
            return FoldedLayer(path, name, name, reason=reader), None
        own_norm = self.fold_norms or not at_rest
        new = (
            layer.folded(affine, own_norm=own_norm)
            if isinstance(layer, ConvertedLayer)
            else _with_affine(layer, affine)
        )
        carry_to_folded(layer, new)
        self._put(self.paths[id(layer)], new)
        described = _own_norm_gone(path, layer, new)
        if norm_path is not None:
            norm = self.model.get_submodule(norm_path)
            described = f"{norm_path} ({type(norm).__name__})"
            self._put(self.paths[id(norm)], remainder(norm))
        core = getattr(new, "conv", new) if isinstance(new, nn.Sequential) else new
        row = FoldedLayer(
            path,
            name,
            type(core).__name__,
            at_rest=at_rest,
            parts=core.parts if isinstance(core, FoldedSAConv2d) else (),
            norm=described,
            norm_stays=stays,
        )
        return row, norm_path

    def _norm(self, path: str, layer: Foldable) -> tuple[str | None, Affine | None, str | None]:
        """The norm that goes into ``layer`` and what it does, or why the one after it stays."""
        if getattr(layer, NORM, None) is not None:  # it has its own
            return None, None, None
        found, why = self.norms.after(path)
        if found is None:
            return None, None, why
        if isinstance(layer, ConvertedLayer):
            if layer.is_at_rest() and not self.fold_norms:
                return None, None, AT_REST
            if not layer.takes_norm:
                return None, None, f"a {type(layer).__name__} cannot take it in"
        norm = self.model.get_submodule(found)
        affine, why = Affine.of(norm), why_untouchable(norm)
        if norm.training:
            why = "it stays in training mode"
        if affine is None or why is not None:
            return None, None, f"{found} ({type(norm).__name__}): {why or 'not a constant scale and shift'}"
        return found, affine, None

    def _put(self, places: Iterable[str], module: nn.Module) -> None:
        for place in places:
            if place:
                self.model.set_submodule(place, module)
            else:
                self.root = module


class _Norms:
    """Which norm follows which layer."""

    def __init__(self, model: nn.Module, inputs: Inputs | None, known: Mapping[str, str], leave: str | None) -> None:
        self.model, self.known, self.leave = model, known, leave
        self.ran = inputs is not None
        self.census: Census | None = take_census(model, inputs) if inputs is not None else census_of_trace(model)
        found = () if self.census is None else add_context(model, self.census)
        self.sites: dict[str, ConvSite] = {site.path: site for site in found}

    def after(self, path: str) -> tuple[str | None, str | None]:
        """The path of the norm, or why it cannot be folded; both None if there is no norm."""
        if self.leave is not None:
            return None, self.leave
        if path in self.known:  # it was a part of the layer
            return self.known[path], None
        site = self.sites.get(path)
        if site is None or self.census is None:
            return None, NO_GRAPH
        if not site.executed:
            return None, "it did not run" if self.ran else NO_GRAPH
        if site.norm is None:
            return None, None if site.found_by != "census" else "no graph shows its norm"
        found, why = followed_by_norm(self.model, self.census, site)
        reader = None if found is None else self.reader(found)
        return (found, why) if reader is None else (None, f"{found}: {reader}")

    def reader(self, path: str) -> str | None:
        """Who else uses the tensors of a module."""
        used = {} if self.census is None else self.census.weights_used_elsewhere
        return f"{used[path] or 'the model'} uses its tensors too" if path in used else None


def _layers(model: nn.Module) -> list[tuple[str, ConvertedLayer]]:
    return [(path, layer) for path, layer in model.named_modules() if isinstance(layer, ConvertedLayer)]


def _in_order(model: nn.Module, sites: Mapping[str, ConvSite]) -> Iterator[tuple[str, Foldable]]:
    """Converted layers and convolutions in the order in which they run; parts of other layers are left out."""
    inside = {id(part) for _, layer in _layers(model) for part in layer.modules() if part is not layer}
    there = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, (ConvertedLayer, nn.Conv2d)) and id(module) not in inside
    }
    for path in dict.fromkeys([*(path for path in sites if path in there), *there]):
        yield path, there[path]


def _changed(conv: nn.Conv2d) -> str | None:
    reason = changed_by_hand(conv)
    return None if reason is None else reason.text


def _with_affine(conv: nn.Conv2d, affine: Affine | None) -> nn.Conv2d:
    """``conv``, which is a copy already, with the norm after it folded in."""
    if affine is not None:
        affine.into(conv)
    return conv


def _following(absorbed: Mapping[str, str], norm: str | None) -> Following:
    """What has to follow a layer, and what has to follow its folded form, before both give the same."""
    if absorbed:
        return Following(converted=absorbed_parts(absorbed))
    return Following(original=(norm,), converted=(norm,)) if norm is not None else Following()


def _own_norm_gone(path: str, layer: nn.Module, new: nn.Module) -> str | None:
    """The norm that was a part of the layer and is in its kernels now."""
    norm = getattr(layer, NORM, None)
    gone = isinstance(norm, nn.Module) and not isinstance(norm, nn.Identity) and getattr(new, NORM, None) is None
    return f"{path}.{NORM} ({type(norm).__name__})".removeprefix(".") if gone else None
