"""What a machine can do at most, and how close each layer comes to it: the roofline model (Williams, Waterman and Patterson,
"Roofline: an insightful visual performance model for multicore architectures", CACM 52(4), 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class CopySpeed:
    """Bytes per second, read and written, of copying so many bytes in all."""

    bytes: int
    bytes_per_s: float


@dataclass(frozen=True)
class Peaks:
    """What was measured on the spot, with the dtype and the threads of the models.

    ``flops_per_s`` is the most that a matrix product or a convolution reached, ``fastest`` says which; ``copies`` are of rising
    size: the small ones stay in the caches, the largest goes to memory. ``seconds`` is how long measuring took.
    """

    device: str
    dtype: str
    threads: int
    flops_per_s: float
    fastest: str
    copies: tuple[CopySpeed, ...]
    seconds: float

    @property
    def memory_bytes_per_s(self) -> float:
        """Of the largest copy."""
        return self.copies[-1].bytes_per_s

    @property
    def most_bytes_per_s(self) -> float:
        """Of the fastest copy, which is one in the caches."""
        return max(copy.bytes_per_s for copy in self.copies)

    def bytes_per_s(self, moved: int) -> float:
        """Of a copy of so many bytes: the smallest that was measured and is not smaller, or the largest."""
        return next((copy for copy in self.copies if copy.bytes >= moved), self.copies[-1]).bytes_per_s

    def roof(self, intensity: float, bytes_per_s: float) -> float:
        """FLOPs per second that can be reached at most with so many FLOPs per byte."""
        return min(self.flops_per_s, intensity * bytes_per_s)


@dataclass(frozen=True)
class RooflinePoint:
    """A layer: FLOPs per byte moved, FLOPs per second, and the share of its roof.

    The roof is that of a copy of as many bytes, or the peak if that is lower: ``bound`` says which. ``above`` is whether the
    layer is clearly faster than any copy and the peak allow, which a wrong count would explain.
    """

    IN_JSON: ClassVar = ("share",)

    path: str
    type: str
    intensity: float
    flops_per_s: float
    roof_flops_per_s: float
    bound: Literal["memory", "compute"]
    latency_s: float
    above: bool = False

    @property
    def share(self) -> float:
        """Of its roof."""
        return self.flops_per_s / self.roof_flops_per_s


@dataclass(frozen=True)
class Roofline:
    """The peaks, and a point for each layer of known time, FLOPs and bytes; ``left_out`` says how many have none.

    ``note`` says what about the figures is not as it is run.
    """

    peaks: Peaks
    points: tuple[RooflinePoint, ...]
    left_out: int = 0
    note: str | None = None
