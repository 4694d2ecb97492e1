"""The gates of ``--fail-if``, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from saconv_surgeon.records import GateResult
from saconv_surgeon.report.blocks import BLANK, Block, Line, line


def gate_lines(results: Sequence[GateResult]) -> list[Line]:
    """``--fail-if "latency>1.2x" FAILED: latency: ×1.31, …``."""
    return [
        line(
            f'--fail-if "{result.gate}" {"FAILED" if result.failed else "passed"}: {result.found}',
            "bad" if result.failed else "good",
        )
        for result in results
    ]


def gate_blocks(results: Sequence[GateResult]) -> list[Block]:
    """The same with a gap before, if there are any."""
    return [BLANK, *gate_lines(results)] if results else []
