"""What a position in the middle of a map sees of the input."""

from __future__ import annotations

from dataclasses import dataclass

Map = tuple[tuple[float, ...], ...]
"""Rows of values from 0 to 1."""


@dataclass(frozen=True)
class StageField:
    """Of the last map of one size: ``path`` is the module that gives it, ``stride`` how much smaller it is than the input.

    ``theoretical`` is (height, width) in pixels of all that local operations reach, the contexts and other means over whole maps
    left out; if it ``is_clipped``, it ends at the border of the input that was tried. ``effective`` is the side, in pixels, of a
    square as large as the area in which the gradient of the output's centre is at least 4.55 % of its largest value (Luo et al.,
    "Understanding the effective receptive field in deep convolutional neural networks", NeurIPS 2016, section 4); ``picture``
    is that gradient, averaged over inputs. A figure that could not be had is None.
    """

    path: str
    stride: int
    theoretical: tuple[int, int] | None
    is_clipped: bool
    effective: float | None
    picture: Map = ()


@dataclass(frozen=True)
class ReceptiveField:
    """The stages of a model, from the largest map to the smallest; ``global_means`` are the means over whole maps that ran.

    ``input_size`` is (height, width). ``note`` says why there is nothing, or what could not be had.
    """

    stages: tuple[StageField, ...]
    input_size: tuple[int, int] | None
    global_means: int = 0
    n: int = 0
    note: str | None = None


@dataclass(frozen=True)
class SwitchMap:
    """Where a switchable layer looks far in one image: ``values`` are 1 − S, the share of the wide branch, over its map.

    ``far`` is the share of positions at which the wide branch has more than half, ``mean`` the mean of 1 − S. ``size`` is that of
    the layer's own map, (height, width), of which ``values`` may be averages.
    """

    path: str
    mean: float
    far: float
    size: tuple[int, int]
    values: Map


@dataclass(frozen=True)
class ShownImage:
    """The picture that switch maps are about: the name of its file, how it was normalised, and its brightness."""

    name: str
    normalised: str
    grey: Map
