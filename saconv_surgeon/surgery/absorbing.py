"""``--absorb``: which norm and activation behind a convolution can become parts of the new layer, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from saconv_surgeon.models.census import Census, Given
from saconv_surgeon.models.copying import paths_of
from saconv_surgeon.records import PlannedSite

NORM, ACTIVATION = "bn", "act"
"""The names that the parts have in the block, as in published ones."""


def with_absorption(model: nn.Module, census: Census, sites: Iterable[PlannedSite]) -> tuple[PlannedSite, ...]:
    """The sites, with what each that can be converted absorbs, or why it does not."""
    first = {path: names[0] for names in paths_of(model).values() for path in names}

    def decide(site: PlannedSite) -> PlannedSite:
        if site.added_parameters is None:  # it cannot be converted, whatever a plan says
            return site
        norm, why_not = _movable(site, site.norm, "norm", census, first)
        if norm is None:
            return replace(site, not_absorbed=why_not)
        if site.activation is None:
            return replace(site, absorbs={NORM: norm})
        activation, why_not = _movable(site, site.activation, "activation", census, first)
        found = {NORM: norm} if activation is None else {NORM: norm, ACTIVATION: activation}
        return replace(site, absorbs=found, not_absorbed=why_not)

    return tuple(map(decide, sites))


def _movable(
    site: PlannedSite, described: str | None, what: str, census: Census, first: dict[str, str]
) -> tuple[str | None, str | None]:
    """The path of a module that only this convolution feeds, or why it has to stay."""
    if described is None:
        seen = site.found_by != "census"
        return None, f"no {what} that it alone feeds" if seen else f"no graph shows its {what}"
    path, is_module, _ = described.rpartition(" (")
    if not is_module:
        return None, f"its {what} is a function, {described}"
    calls = census.calls.get(first[path], 0)
    if calls != site.calls:
        return None, f"{path} is called {calls} times, the convolution {site.calls}"
    given = [value for value in census.arguments.get(first[path], {}).values() if isinstance(value, Given)]
    if len(given) > 1:
        return None, f"{path} takes {len(given)} tensors"
    return path, None
