"""``--absorb``: which norm and activation after a convolution can become parts of the new layer, and why others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from saconv_surgeon.convs.affine import Affine
from saconv_surgeon.convs.converted import ACTIVATION, NORM
from saconv_surgeon.convs.known_norms_and_activations import has_activation
from saconv_surgeon.models.census.census import Census, Given
from saconv_surgeon.models.running.state import preserved
from saconv_surgeon.models.tree.absorbed_modules import is_stateless
from saconv_surgeon.models.tree.paths import parent_of, paths_of
from saconv_surgeon.records import ConvSite, PlannedSite


def with_absorption(
    model: nn.Module,
    census: Census,
    sites: Iterable[PlannedSite],
    able: Mapping[str, bool],
    in_training: Iterable[ConvSite] = (),
) -> tuple[PlannedSite, ...]:
    """The sites, with what each that can be converted absorbs, or why it does not.

    ``able`` says, by path, whether the layer that the site would become has a norm and an activation of its own.
    ``in_training`` are the same convolutions as a run in training shows them: what another part reads there stays too.
    """
    search = _Search(model, census, in_training)

    def decide(site: PlannedSite) -> PlannedSite:
        if able.get(site.path, True):
            return search.decide(site)
        return replace(site, not_absorbed=f"{site.target or 'its target'} has no norm and activation of its own")

    return tuple(map(decide, sites))


def followed_by_norm(model: nn.Module, census: Census, site: ConvSite) -> tuple[str | None, str | None]:
    """The path of the norm that a convolution alone feeds and that is called for nothing else, or why there is none."""
    return _Search(model, census, ())._movable(site, site.norm, "norm")


def _held_in_eval(model: nn.Module) -> frozenset[str]:
    """The modules that the model's own ``train()`` leaves in eval mode, as frozen norms are; elsewhere it would not find them."""
    if all(type(module).train is nn.Module.train and "train" not in vars(module) for module in model.modules()):
        return frozenset()
    with preserved(model, "train"):
        return frozenset(path for path, module in model.named_modules(remove_duplicate=False) if not module.training)


def beside_branches(model: nn.Module, site: PlannedSite) -> PlannedSite:
    """``site`` without what it absorbs if branches with norms of their own could not be merged beside that."""
    if NORM not in site.absorbs:
        return site
    norm = model.get_submodule(site.absorbs[NORM])
    why = None
    if has_activation(norm):
        why = "its norm holds its activation, which would come before the branches"
    elif Affine.of(norm) is None:
        why = f"its {type(norm).__name__} is not a constant scale and shift in inference"
    return site if why is None else replace(site, absorbs={}, not_absorbed=why)


class _Search:
    """Looks for what follows each convolution and nothing else uses."""

    def __init__(self, model: nn.Module, census: Census, in_training: Iterable[ConvSite]) -> None:
        self.model, self.census = model, census
        self.in_training = {site.path: site for site in in_training if site.executed}
        self.names = {path: names for names in paths_of(model).values() for path in names}
        self.held_in_eval = _held_in_eval(model)

    def decide(self, site: PlannedSite) -> PlannedSite:
        """``site`` with what it absorbs."""
        if site.added_parameters is None:  # it cannot be converted, even if a plan says so
            return site
        trained = self.in_training.get(site.path, site)
        if trained.found_by != "census" and (trained.norm, trained.activation) != (site.norm, site.activation):
            return replace(site, not_absorbed="something else follows it in training")
        norm, why_not = self._movable(site, site.norm, "norm")
        if norm is None:
            return replace(site, not_absorbed=why_not)
        if site.activation is None:
            return replace(site, absorbs={NORM: norm})
        activation, why_not = self._movable(site, site.activation, "activation")
        found = {NORM: norm} if activation is None else {NORM: norm, ACTIVATION: activation}
        return replace(site, absorbs=found, not_absorbed=why_not)

    def _movable(self, site: ConvSite, described: str | None, what: str) -> tuple[str | None, str | None]:
        """The path of a module that only this convolution feeds, or why it has to stay."""
        if described is None:
            seen = site.found_by != "census"
            return None, f"no {what} that it alone feeds" if seen else f"no graph shows its {what}"
        path, is_module, _ = described.rpartition(" (")
        if not is_module:
            return None, f"its {what} is a function, {described}"
        first = self.names[path][0]
        given = [value for value in self.census.arguments.get(first, {}).values() if isinstance(value, Given)]
        if len(given) > 1:
            return None, f"{path} takes {len(given)} tensors"
        if len(self.names[path]) > 1 + len(site.aliases) and not is_stateless(self.model.get_submodule(path)):
            return None, f"{path} has other names: {', '.join(n for n in self.names[path] if n != path)}"
        if path in self.held_in_eval:
            return None, f"{path} stays in eval mode when the model is trained, which its own code sees to"
        calls = self.census.calls.get(first, 0)
        if calls == site.calls:
            return path, None
        beside = self._beside(site, first)
        return beside, None if beside else f"{path} is called {calls} times, the convolution {site.calls}"

    def _beside(self, site: ConvSite, shared: str) -> str | None:
        """The name, next to the convolution, of a module that has many users and holds nothing that they share.

        None if it is called for others there too.
        """
        callers = self.census.callers.get(site.path, Counter())
        if len(callers) != 1 or not is_stateless(self.model.get_submodule(shared)):
            return None
        (caller,) = callers
        if self.census.callers[shared].get(caller, 0) != site.calls:
            return None
        return next((name for name in self.names[shared] if parent_of(name) == caller), None)
