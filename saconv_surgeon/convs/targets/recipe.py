"""``Recipe``: how a converted layer was made, so that another convolution can be converted in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import nn

from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.convs.targets.known_targets import TARGETS, find_target, offered_targets
from saconv_surgeon.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """``target`` is the name of the target, None for a layer of no target; ``absorbed`` as in :class:`ConvertedLayer`."""

    layer: type[ConvertedLayer]
    target: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    absorbed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, layer: ConvertedLayer) -> Self:
        """How ``layer`` was made."""
        kind = type(layer)
        known = {target.layer: name for name, target in TARGETS.items()}
        name = known.get(kind) or next((n for n in offered_targets() if _layer_of(n) is kind), None)
        return cls(kind, name, layer.options(), dict(layer.absorbed))

    @classmethod
    def read(cls, written: Any) -> Self:
        """The recipe that :meth:`written` wrote.

        Raises:
            UsageError: There is no such target, or it does not have these options.
        """
        entry: Mapping[str, Any] = {"target": written} if isinstance(written, str) else written
        target = find_target(entry["target"])
        target.parse(entry.get("options", {}))
        return cls(target.layer, target.name, entry.get("options", {}), entry.get("absorbed", {}))

    def written(self) -> str | dict[str, Any]:
        """For a configuration: the name of the target alone, or with its options and what it absorbed."""
        assert self.target is not None
        rest = {name: dict(value) for name, value in (("options", self.options), ("absorbed", self.absorbed)) if value}
        return {"target": self.target, **rest} if rest else self.target

    def make(self, conv: nn.Conv2d) -> ConvertedLayer:
        """A layer of the same kind, made from ``conv``, which is left unchanged; nothing is absorbed yet."""
        options = find_target(self.target).parse(self.options) if self.target is not None else {}
        return self.layer.from_conv2d(conv, **options)


def _layer_of(name: str) -> type[ConvertedLayer] | None:
    try:
        return find_target(name).layer
    except UsageError:  # another package's fault
        return None
