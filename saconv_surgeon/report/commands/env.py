"""What ``env`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saconv_surgeon.report.blocks import Column, Table


def environment_table(facts: Mapping[str, Any]) -> Table:
    """Versions, devices and optional packages."""
    rows = tuple((name, str(value if value is not None else "not installed")) for name, value in facts.items())
    return Table("", (Column("", whole=True, tone="strong"), Column("")), rows, header=False)
