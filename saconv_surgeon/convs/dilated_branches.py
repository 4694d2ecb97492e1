"""The small kernels beside a large one in UniRepLKNet (arXiv 2311.15599, section 3.1). Only numbers: imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

BRANCHES: Mapping[int, tuple[tuple[int, int], ...]] = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
"""For each size of the large kernel the (size, dilation) of the small ones, as published."""
