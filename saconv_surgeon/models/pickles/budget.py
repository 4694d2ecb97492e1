"""How much a file may ask for: instructions, nesting, digits, and memory that is not in the file itself."""

from __future__ import annotations

from saconv_surgeon.models.pickles.stand_ins import RefusedError

MOST_INSTRUCTIONS = 4_000_000
"""Some ten seconds. A checkpoint has about forty for each tensor, those of its optimizer included."""
MOST_NESTED = 200
LONGEST_INTEGER = 1024
"""In bytes. Random states have the longest, of some sixteen."""
ROOM = 64 * 2**20
"""Bytes that a file may ask for beyond its own size: bytes that are written as text, tensors that repeat their elements."""


class Budget:
    """The memory that the content of one file may take; ``size`` is that of the file, in bytes."""

    def __init__(self, size: int) -> None:
        self.left = 2 * size + ROOM

    def take(self, nbytes: int, what: str) -> None:
        """Accounts for ``nbytes`` that ``what`` needs.

        Raises:
            RefusedError: There is not as much left.
        """
        self.left -= nbytes
        if self.left < 0:
            raise RefusedError("allocation", f"{what} would take {nbytes} bytes, out of all proportion to the file")
