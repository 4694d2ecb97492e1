"""Converting a model again: one plan for what was converted before and for what is converted now."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.choices import goal_of
from saconv_surgeon.convs.targets.goal import Goal
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.errors import ArtefactError, UsageError
from saconv_surgeon.records import Plan, PlannedSite


def with_earlier(model: nn.Module, plan: Plan, before: Plan | None, *, replayed: bool = False) -> Plan:
    """``plan`` with the layers that ``model`` had already, each with the target and the options by which it was made.

    Carried out on the original, it gives what the two conversions gave one after the other; on ``model`` itself, what the second
    gave. Layers of no known target stay refused, as does everything if ``plan`` converts nothing and none was ``replayed``.

    Args:
        model: What was converted now.
        plan: The plan of that.
        before: The plan by which ``model`` was made, if that is at hand: it knows the original.
        replayed: ``plan`` follows one that asked for layers, all of which ``model`` may have already.
    """
    if not plan.converted_paths and not replayed:
        return plan
    known = {site.path: site for site in before.sites if site.converts} if before is not None else {}
    sites = tuple(_made_before(model, site, known.get(site.path)) for site in plan.sites)
    if not any(site.earlier for site in sites):
        return plan
    whole = replace(plan, sites=sites)
    if before is not None:
        whole = replace(whole, base=before.base)
    if whole.init is None and not all(goal_of(whole, s).target.preserves for s in sites if s.earlier):
        whole = replace(whole, init=before.init if before is not None and before.init is not None else "project")
    return whole


def is_made_so(model: nn.Module, plan: Plan, site: PlannedSite) -> bool:
    """Whether ``model`` has the layer already that ``plan`` makes of ``site``."""
    layer = model.get_submodule(site.path)
    if not isinstance(layer, ConvertedLayer):
        return False
    goal, found = goal_of(plan, site), _recipe_of(layer)
    return found is not None and (found.target, found.written) == (goal.target, goal.written)


def check_made_before(site: PlannedSite, layer: ConvertedLayer, goal: Goal) -> None:
    """Checks that ``layer`` is what a plan makes of a convolution that was converted before.

    Raises:
        ArtefactError: The plan does not say that it was, or makes something else of it.
    """
    if not site.earlier:
        raise ArtefactError(f"{site.path!r} is converted already; give the original model")
    found = _recipe_of(layer)
    if found is None or (found.target, found.written) != (goal.target, goal.written):
        name = type(layer).__name__ if found is None else _in_words(found)
        raise ArtefactError(
            f"{site.path!r} is {name} already, and the plan makes {_in_words(goal)} of it; give the original"
        )


def _made_before(model: nn.Module, site: PlannedSite, before: PlannedSite | None) -> PlannedSite:
    if site.reason_code != "already-converted":
        return site
    layer = model.get_submodule(site.path)
    recipe = _recipe_of(layer) if isinstance(layer, ConvertedLayer) else None
    if recipe is None or not isinstance(layer, ConvertedLayer):
        return site
    return replace(
        site,
        decision="convert",
        reason=None,
        reason_code=None,
        target=recipe.target.name,
        options=recipe.written,
        earlier=True,
        absorbs=dict(layer.absorbed),
        type=site.type if before is None else before.type,
        arguments=site.arguments if before is None else before.arguments,
        parameters=site.parameters if before is None else before.parameters,
        added_parameters=None if before is None else before.added_parameters,
        added_macs=None if before is None else before.added_macs,
    )


def _recipe_of(layer: ConvertedLayer) -> Goal | None:
    """The target and the options by which ``layer`` was made; None if it is of no known target."""
    recipe = Recipe.of(layer)
    if recipe.target is None:
        return None
    try:
        return Goal.of(recipe.target, recipe.options)
    except UsageError:
        return None


def _in_words(goal: Goal) -> str:
    return " ".join([goal.target.name, *(f"{name}={value}" for name, value in goal.written.items())])
