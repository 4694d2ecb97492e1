"""The whole state of a model as plain tensors, and back.

What a model's ``state_dict()`` gives is stored, and besides it the parameters and persistent buffers that it leaves out, renames
or changes: a model that keeps a frozen part out of its checkpoints, or casts what it hands out, would come back without it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saconv_surgeon.errors import ArtefactError, ModelError
from saconv_surgeon.models.tree.paths import joined
from saconv_surgeon.models.tree.tensor_forms import FormError, is_plain, overlaps, put_together, taken_apart
from saconv_surgeon.models.tree.tensor_values import can_be_copied

COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
REGISTERED = "#registered"
"""After the name of a parameter or buffer that ``state_dict()`` gives another value for."""


@dataclass(frozen=True, eq=False)
class StoredState:
    """Plain tensors by key, tensors that are the same once only; ``aliases`` names the others: ``{key: first key}``.

    ``forms`` describes values that are made of several tensors. ``places`` says under which keys those parameters and buffers
    lie that loading the state dict does not set: ``{name: key}``.
    """

    tensors: Mapping[str, Tensor]
    aliases: Mapping[str, str]
    forms: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def notes(self) -> dict[str, Any]:
        """What a plan records of it; {} for a state that is plain tensors alone."""
        return {name: dict(part) for name, part in (("forms", self.forms), ("places", self.places)) if part}


def stored_state(model: nn.Module) -> StoredState:
    """Everything to store of ``model``, which is left as it was.

    Raises:
        ModelError: It holds something that is not made of tensors.
    """
    given: dict[str, Any] = dict(model.state_dict())
    places = _unset_by_loading(model, given)
    held = dict(registered(model))
    values = given | {key: held[name] for name, key in places.items() if key not in given}
    tensors: dict[str, Tensor] = {}
    forms: dict[str, Any] = {}
    for key, value in values.items():
        try:
            form, parts = taken_apart(value, key)
        except FormError as error:
            raise ModelError(
                f"the state of the model holds more than plain tensors (first: {key}, {error}); save to a .pt file instead"
            ) from None
        tensors |= parts
        if form is not None:
            forms[key] = form
    kept, aliases = _once_each(tensors)
    return StoredState(kept, aliases, forms, places)


def check_writable(model: nn.Module) -> None:
    """Raises ``ModelError`` if the model holds a tensor that torch cannot write to any kind of file: of MKL-DNN's layout."""
    held = (*model.named_parameters(), *model.named_buffers())
    name = next((name for name, t in held if t.layout is torch._mkldnn), None)  # type: ignore[attr-defined]
    if name is not None:
        raise ModelError(
            f"{name} is in the layout of MKL-DNN, which torch cannot save; put {name}.to_dense() in its place"
        )


def check_storable(model: nn.Module) -> None:
    """Raises ``ModelError`` if the state of ``model`` cannot be saved to a folder."""
    check_writable(model)
    stored_state(model)


def registered(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and persistent buffer of ``model``, under all its names, whatever ``state_dict()`` gives."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        passing = getattr(module, "_non_persistent_buffers_set", ())
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and name not in passing:
                yield joined(prefix, name), tensor


def _unset_by_loading(model: nn.Module, given: Mapping[str, Any]) -> dict[str, str]:
    """Parameters and buffers that a state dict does not give as they are, by name, and the keys to store them under."""
    by_memory = {_memory(value): key for key, value in given.items() if isinstance(value, Tensor)}
    places: dict[str, str] = {}
    for name, tensor in registered(model):
        found = given.get(name)
        if isinstance(found, Tensor) and (_memory(found) == _memory(tensor) or _equal(found, tensor)):
            continue
        places[name] = by_memory.get(_memory(tensor), f"{name}{REGISTERED}" if name in given else name)
    return places


def load_stored(model: nn.Module, tensors: Mapping[str, Tensor], notes: object) -> tuple[list[str], list[str]]:
    """Sets the state of ``model``, in place, and gives the keys that are missing and those that it does not know.

    Args:
        model: A model of the same structure.
        tensors: Those of a file.
        notes: What :meth:`StoredState.notes` gave.

    Raises:
        ArtefactError: The notes do not fit the tensors.
        RuntimeError: A tensor has another shape than the model's.
    """
    values, places = _values(tensors, notes)
    held = dict(registered(model))
    keys = {name: name for name in held if name in values} | places
    _adopt_dtypes(model, {name: values[key] for name, key in keys.items()})
    assigned = {name for name, key in keys.items() if name in held and _must_replace(held[name], values[key])}
    _replace(model, {name: values[keys[name]] for name in assigned})
    only_placed = set(places.values()) - set(held)
    state = {key: value for key, value in values.items() if key not in assigned and not key.endswith(REGISTERED)}
    result = model.load_state_dict(_with_versions(state, model, values, tensors), strict=False)
    missing, unexpected = set(getattr(result, "missing_keys", ())), set(getattr(result, "unexpected_keys", ()))
    held = dict(registered(model))  # loading may have put others in their places
    with torch.no_grad():
        for name, key in places.items():
            if name in held and name not in assigned:
                if held[name].shape != values[key].shape:
                    raise RuntimeError(f"size mismatch for {name}: {tuple(values[key].shape)} is stored")
                held[name].copy_(values[key])
    loaded = {*keys, *assigned}
    reached = {_storage(held[name]) for name in loaded if name in held}
    missing = {name for name in missing - loaded if name not in held or _storage(held[name]) not in reached}
    strange = (unexpected - only_placed - assigned) | (set(places) - set(held)) | _twice(held, tensors)
    return sorted(missing), sorted(strange)


def _with_versions(
    state: dict[str, Any], model: nn.Module, values: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """``state``, with the versions of the model's modules if it holds more than plain tensors: packed weights need them."""
    versioned = OrderedDict(state)
    if any(key not in tensors for key in values):
        versioned._metadata = getattr(model.state_dict(), "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return versioned


def _values(tensors: Mapping[str, Tensor], notes: object) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a stored state by key, and where its other parameters and buffers lie."""
    notes = notes if isinstance(notes, Mapping) else {}
    forms, places = notes.get("forms", {}), notes.get("places", {})
    try:
        values: dict[str, Any] = {key: put_together(form, tensors) for key, form in forms.items()}
        parts = {part for form in forms.values() for part in _parts_of(form)}
        values |= {key: tensor for key, tensor in tensors.items() if key not in parts}
        lost = [key for key in places.values() if key not in values]
    except (FormError, AttributeError, TypeError) as error:
        raise ArtefactError(
            f"the notes on the stored state do not fit it ({error}); save the conversion again"
        ) from None
    if lost:
        raise ArtefactError(f"the stored state lacks {lost[0]!r}, which its notes name; save the conversion again")
    return values, dict(places)


def _parts_of(form: object) -> Iterator[str]:
    if isinstance(form, Mapping):
        if form.get("kind") == "plain":
            yield form["tensor"]
        for inner in form.values():
            yield from _parts_of(inner)
    elif isinstance(form, list):
        for inner in form:
            yield from _parts_of(inner)


def _once_each(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous tensors that share no memory, the first of several that are the same; and the names of the others."""
    first: dict[tuple[object, ...], str] = {}
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: set[object] = set()
    for key in sorted(tensors):
        tensor = tensors[key]
        name = first.setdefault(_memory(tensor), key)
        if name != key and tensor.numel():
            aliases[key] = name
            continue
        whole = tensor.contiguous()
        kept[key] = whole.clone() if _storage(whole) in seen else whole
        seen.add(_storage(whole))
    return kept, aliases


def _adopt_dtypes(model: nn.Module, values: Mapping[str, Any]) -> None:
    """Casts the model's tensors to the dtypes of the values, so that loading rounds nothing."""
    for name, tensor in registered(model):
        value = values.get(name)
        if isinstance(value, Tensor) and is_plain(value) and is_plain(tensor) and value.dtype != tensor.dtype:
            tensor.data = tensor.data.to(value.dtype)


def _must_replace(held: Tensor, value: object) -> bool:
    """Whether ``value`` can only take the place of a tensor, not be copied into it."""
    if not isinstance(value, Tensor):
        return False
    if not can_be_copied(value.dtype):
        return True
    return any(t.layout is not torch.strided or t.is_quantized or overlaps(t) for t in (held, value))


def _replace(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Puts tensors in the places of parameters and buffers of the same size; those that were one stay one."""
    made: dict[int, Tensor] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, old in [*module._parameters.items(), *module._buffers.items()]:
            value = values.get(joined(prefix, name))
            if old is None or value is None:
                continue
            if old.shape != value.shape:
                raise RuntimeError(f"size mismatch for {joined(prefix, name)}: {tuple(value.shape)} is stored")
            if id(old) not in made:
                moved = value.to(old.device)
                made[id(old)] = nn.Parameter(moved, old.requires_grad) if isinstance(old, nn.Parameter) else moved
            setattr(module, name, made[id(old)])
            made[id(made[id(old)])] = made[id(old)]


def _twice(held: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> set[str]:
    """Keys of tensors that are one in the model and several in the file."""
    first: dict[tuple[object, ...], str] = {}
    groups = ((key, first.setdefault(_memory(held[key]), key)) for key in sorted(tensors) if key in held)
    return {key for key, name in groups if key != name and held[key].numel()}


def _memory(t: Tensor) -> tuple[object, ...]:
    """The same for two tensors only if they are the same memory, seen in the same way."""
    if type(t) not in (Tensor, nn.Parameter) or t.is_nested:
        return (id(t),)
    if t.layout is torch.sparse_coo:
        return (t.layout, _memory(t._indices()), _memory(t._values()))
    if t.layout in COMPRESSED:
        return (t.layout, _memory(t.values()))
    if t.layout is not torch.strided:
        return (id(t),)
    if t.numel() == 0:
        return (id(t),)
    return (t.device, t.data_ptr(), t.shape, t.stride(), t.dtype)


def _storage(t: Tensor) -> object:
    plain = type(t) in (Tensor, nn.Parameter) and t.layout is torch.strided and not t.is_nested and t.numel()
    return t.untyped_storage().data_ptr() if plain else id(t)


def _equal(a: Tensor, b: Tensor) -> bool:
    try:
        return a.dtype == b.dtype and a.layout == b.layout and torch.equal(a, b)
    except (RuntimeError, NotImplementedError):
        return False
