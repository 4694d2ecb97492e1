"""Mixes: recipes that make different things of the convolutions of one model. They are read for ``--help``: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saconv_surgeon.records import ConvSite


@dataclass(frozen=True)
class Rule:
    """One target of a mix, and the convolutions that it is for.

    Args:
        target: Its name.
        options: Its options, as the user writes them.
        spatial: Only kernels larger than 1×1.
        min_stride: Only convolutions whose output map is at least so many times smaller than the input, as ``--min-stride``.
    """

    target: str
    options: Mapping[str, str] = field(default_factory=dict)
    spatial: bool = False
    min_stride: int | None = None

    def is_for(self, site: ConvSite, stride: int | None) -> bool:
        """Whether it is for ``site``, whose output is at ``stride``."""
        pointwise = site.arguments is not None and set(site.arguments.kernel_size) == {1}
        near = self.min_stride is not None and (stride is None or stride < self.min_stride)
        return not (self.spatial and pointwise) and not near


@dataclass(frozen=True)
class Mix:
    """A convolution becomes the target of the first rule that is for it and that does not refuse it."""

    name: str
    summary: str
    rules: tuple[Rule, ...]


DETECTORS = Mix(
    "detectors",
    "what DetectoRS makes of a backbone: saconv-deform for the 3×3 kernels of stages 2-4 (output stride 8 and more), aws for "
    "all others",
    (Rule("saconv-deform", spatial=True, min_stride=8), Rule("aws")),
)
MIXES = {mix.name: mix for mix in (DETECTORS,)}
"""What ``--to`` takes beside the targets."""
