"""Counters of energy: of a GPU through NVML, of the processor's packages through RAPL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class EnergyCounter:
    """``read`` gives joules since some moment. A processor's count starts again at ``wraps_at``; None for one that does not."""

    source: str
    read: Callable[[], Sequence[float]]
    wraps_at: Sequence[float] | None = None

    def between(self, before: Sequence[float], after: Sequence[float]) -> float:
        """Joules from one reading to the next."""
        spans = [b - a for a, b in zip(before, after, strict=True)]
        if self.wraps_at is not None:
            spans = [span + wrap if span < 0 else span for span, wrap in zip(spans, self.wraps_at, strict=True)]
        return sum(spans)


class NoCounterError(Exception):
    """Energy cannot be read here; the message says why."""


def energy_counter(device: torch.device) -> EnergyCounter:
    """The counter of the device that a model runs on.

    Raises:
        NoCounterError: There is none, or it may not be read.
    """
    return _nvml(device) if device.type == "cuda" else _rapl(POWERCAP)


def _nvml(device: torch.device) -> EnergyCounter:
    try:
        import pynvml
    except ImportError:
        raise NoCounterError("the energy of a GPU is read through NVML: pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
        identity = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity.removeprefix('GPU-')}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except (pynvml.NVMLError, AttributeError) as error:
        raise NoCounterError(f"NVML does not tell the energy of {device}: {error}") from error
    return EnergyCounter(
        "NVML, total energy of the GPU", lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,)
    )


def _rapl(root: Path) -> EnergyCounter:
    packages = sorted(root.glob("intel-rapl:[0-9]*"))
    packages = [each for each in packages if each.name.count(":") == 1 and (each / "energy_uj").exists()]
    if not packages:
        raise NoCounterError(f"this machine shows no RAPL counter in {root}, as virtual machines do not")
    files = [each / "energy_uj" for each in packages]

    def read() -> tuple[float, ...]:
        return tuple(int(file.read_text()) / 1e6 for file in files)

    try:
        read()
        wraps = tuple(int((each / "max_energy_range_uj").read_text()) / 1e6 for each in packages)
    except (OSError, ValueError) as error:
        raise NoCounterError(
            f"{files[0]} cannot be read ({error}); it is the administrator's on most systems"
        ) from error
    return EnergyCounter(f"RAPL, {len(files)} processor package{'s' if len(files) > 1 else ''}", read, wraps)
