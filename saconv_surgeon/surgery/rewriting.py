"""Puts new layers into a copy of the user's own module tree."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from saconv_surgeon.convs.converted import ACTIVATION, NORM, ConvertedLayer
from saconv_surgeon.convs.kernel_guard import guard
from saconv_surgeon.convs.parameter_extras import carry_to_layer
from saconv_surgeon.convs.targets.choices import goal_of
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.target import Target
from saconv_surgeon.errors import ArtefactError, ModelError
from saconv_surgeon.integrations.hugging_face_record import record_layers
from saconv_surgeon.models.census.conv_arguments import conv_arguments
from saconv_surgeon.models.running.one_at_a_time import one_at_a_time
from saconv_surgeon.models.running.state import preserved_randomness
from saconv_surgeon.models.tree.absorbed_modules import absorb, give_back
from saconv_surgeon.models.tree.copying import copy_model
from saconv_surgeon.models.tree.kernel_shape import set_by_kernel
from saconv_surgeon.models.tree.paths import paths_of
from saconv_surgeon.models.tree.recursion import with_room
from saconv_surgeon.models.tree.wrappers import rebind, unwrapped
from saconv_surgeon.records import Plan, PlannedSite
from saconv_surgeon.surgery.changed_by_hand import CARRIED_HOOKS, carry_hooks, hooks_on, patched_methods
from saconv_surgeon.surgery.earlier import check_made_before
from saconv_surgeon.surgery.own_convolutions import layer_of, recognised


@one_at_a_time
@with_room
def apply(model: nn.Module, plan: Plan) -> nn.Module:
    """A copy of ``model`` in which the convolutions that ``plan`` converts are replaced. ``model`` is not modified.

    A wrapper around the model (``DataParallel``, ``torch.compile`` …) is taken off first; put it on again afterwards.

    A convolution registered under several names is replaced once and stays shared. If the model itself is the
    convolution, the new layer is returned. What a layer absorbs becomes a part of it and leaves an ``nn.Identity`` behind.
    A plan of several conversions, one after the other, can be applied to the original and to what the earlier ones gave.

    Raises:
        ArtefactError: The plan does not fit the model; nothing was changed.
        UsageError: It names a target that there is not, or options that the target does not have.
    """
    model = unwrapped(model)
    to_make = [(site, goal_of(plan, site)) for site in plan.sites if site.converts]
    to_make = [(site, goal) for site, goal in to_make if not _is_made(model, site, goal)]
    for site, goal in to_make:
        _check_fits(model, site)
        _check_absorbs(site, goal.target)
    init = "random" if plan.init == "random" else "project"
    copied = copy_model(model)
    with preserved_randomness():
        layer = _replace(
            copied, [(site, goal if goal.target.preserves else goal.started(init)) for site, goal in to_make]
        )
    if layer is not None:
        return layer
    rebind(copied)
    protect(copied)
    return copied


def _replace(copied: nn.Module, sites: Iterable[tuple[PlannedSite, Goal]]) -> ConvertedLayer | None:
    """Puts the new layers into ``copied``; if that is the convolution itself, its new layer is returned."""
    paths = paths_of(copied)
    for site, goal in sites:
        conv = copied.get_submodule(site.path)
        assert isinstance(conv, nn.Conv2d)
        set_by_kernel(conv)  # it is a copy already
        try:
            own, kind = recognised(conv), goal.target.layer
            layer = kind.taking(conv, **goal.options) if own is None else layer_of(conv, own, kind, **goal.options)
        except ValueError as error:
            raise ArtefactError(f"{site.path!r} cannot become a {goal.target.layer.__name__}: {error}") from error
        layer.path = site.path or type(layer).__name__
        carry_to_layer(conv, layer, layer.path)
        if conv is copied:
            return layer
        for path in paths[id(conv)]:
            copied.set_submodule(path, layer)
        absorb(copied, layer, site.absorbs)
    return None


@one_at_a_time
@with_room
def revert(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in which every converted layer is the ``nn.Conv2d`` again that it was made from, to the bit.

    ``model`` is not modified. Only layers that training has not moved can be taken back; everything else in the model may have
    been trained. Norms and activations that a layer has absorbed are put back.

    Raises:
        ModelError: Some layers have been trained, or carry hooks or methods that would be lost; names them.
    """
    copied = copy_model(unwrapped(model))
    unprotect(copied)
    layers = [module for module in copied.modules() if isinstance(module, ConvertedLayer)]
    paths = paths_of(copied)
    trained = [paths[id(layer)][0] for layer in layers if not layer.is_at_rest()]
    if trained:
        names = ", ".join(map(repr, trained[:3])) + (" …" if len(trained) > 3 else "")
        raise ModelError(
            f"{len(trained)} of {len(layers)} converted layers have been trained and are not plain convolutions any more: {names}"
        )
    for layer in layers:
        why = _why_lost(layer)
        if why is not None:
            raise ModelError(
                f"{paths[id(layer)][0] or type(layer).__name__!r}: {why}, which a plain convolution in its place would lose; "
                "take that off first, and put it on again afterwards"
            )
    for layer in layers:
        give_back(copied, layer)
        try:
            conv = layer.to_conv2d()
        except ValueError as error:
            raise ModelError(f"{layer.path or type(layer).__name__}: {error}") from error
        carry_to_layer(layer, conv, paths[id(layer)][0])
        carry_hooks(layer, conv)
        if layer is copied:
            return conv
        for path in paths[id(layer)]:
            copied.set_submodule(path, conv)
    rebind(copied)
    record_layers(copied)
    return copied


def _why_lost(layer: ConvertedLayer) -> str | None:
    """What other code has put on a layer or one of its parts that a plain convolution in its place would lose.

    Hooks on the calls of the layer itself are not lost, nor is what is on a norm and an activation that it absorbed.
    """
    given_back = {id(part) for name in layer.absorbed for part in getattr(layer, name).modules()}
    for part in layer.modules():
        carried = CARRIED_HOOKS if part is layer and not layer.absorbed else ()
        hooks = [name.replace("_", " ") for name in hooks_on(part) if f"_{name}" not in carried]
        found = (*(f"{name} replaced" for name in patched_methods(part)), *hooks)
        if id(part) not in given_back and found:
            return f"it has {', '.join(found)}"
    return None


def protect(model: nn.Module) -> None:
    """Keeps code that rewrites or rebuilds models itself from corrupting or losing converted layers, in place."""
    guard(model)
    if record_layers(model):
        from saconv_surgeon.integrations import transformers  # noqa: F401 - what is saved now can be loaded in this process
    changed = (ConvertedLayer, nn.Identity)
    parents = (parent for parent in model.modules() if any(isinstance(c, changed) for c in parent.children()))
    if any(base.__module__.startswith("ultralytics.") for parent in parents for base in type(parent).__mro__):
        from saconv_surgeon.integrations import ultralytics  # installed, but takes seconds to import

        ultralytics.protect(model)


def unprotect(model: nn.Module) -> None:
    """Undoes :func:`protect`, in place."""
    if any(type(module).__module__.startswith("saconv_surgeon.integrations.ultralytics") for module in model.modules()):
        from saconv_surgeon.integrations import ultralytics

        ultralytics.unprotect(model)


def _is_made(model: nn.Module, site: PlannedSite, goal: Goal) -> bool:
    """Whether ``model`` has the layer already, from a conversion before."""
    layer = dict(model.named_modules(remove_duplicate=False)).get(site.path)
    if not isinstance(layer, ConvertedLayer):
        return False
    check_made_before(site, layer, goal)
    return True


def _check_absorbs(site: PlannedSite, target: Target) -> None:
    if site.absorbs and not (target.absorbs and set(site.absorbs) <= {NORM, ACTIVATION}):
        raise ArtefactError(f"the plan lets {site.path!r} absorb {dict(site.absorbs)}, which {target.name} cannot")


def _check_fits(model: nn.Module, site: PlannedSite) -> None:
    for path in site.absorbs.values():
        if not path or site.path == path or site.path.startswith(f"{path}."):
            raise ArtefactError(f"the plan lets {site.path!r} absorb {path!r}, which it is part of")
        try:
            model.get_submodule(path)
        except AttributeError:
            raise ArtefactError(
                f"the plan lets {site.path!r} absorb {path!r}, which {type(model).__name__} does not have"
            ) from None
    try:
        conv = model.get_submodule(site.path)
    except AttributeError:
        raise ArtefactError(
            f"the plan converts {site.path!r}, which {type(model).__name__} does not have; "
            "build the model with the same code and arguments as for the conversion"
        ) from None
    if not isinstance(conv, nn.Conv2d) or (type(conv) is not nn.Conv2d and recognised(conv) is None):
        raise ArtefactError(f"the plan converts {site.path!r}, but that is a {type(conv).__name__}, not an nn.Conv2d")
    wanted, found = site.arguments, conv_arguments(conv)
    if wanted is None:
        return
    differing = [
        f"{name} is {getattr(found, name)}, planned {getattr(wanted, name)}"
        for name in (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "bias",
            "padding_mode",
        )
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differing:
        raise ArtefactError(f"{site.path!r} differs from the plan: {'; '.join(differing)}")
