"""Where the results of benchmarks are kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from saconv_surgeon.profiling.environment import conditions

RESULTS = Path(__file__).parent / "results"


def record(name: str, result: dict[str, Any], device: torch.device | None = None) -> Path:
    """Writes ``result`` with the circumstances that it was measured under to ``results/NAME-DEVICE.json``."""
    facts = conditions(device or torch.device("cpu"))
    label = re.sub(r"[^a-z0-9]+", "-", str(facts["device_name"]).lower()).strip("-")
    path = RESULTS / f"{name}-{label}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": facts, **result}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
