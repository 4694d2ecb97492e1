"""Peak memory of a call."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_memory_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """The most memory that was allocated on a CUDA device during ``call``, weights included; None on other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
