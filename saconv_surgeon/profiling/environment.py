"""What a figure depends on besides the model: versions, devices, clocks, switches. And what a bug report needs to know."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from saconv_surgeon._version import __version__
from saconv_surgeon.profiling.counting.user_formulas import broken_formulas, user_formulas

Facts = dict[str, str | int | float | bool | None]

PACKAGES = ("fvcore", "safetensors", "rich", "click", "numpy")
OPTIONAL = ("torchvision", "timm", "ultralytics", "transformers", "segmentation-models-pytorch", "onnx", "onnxruntime")
CPU_INFO = Path("/proc/cpuinfo")


def environment() -> Facts:
    """Versions, devices, optional packages, and formulas of other packages for their operations.

    None for a package that is not installed.
    """
    return {
        **_versions(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        **{f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())},
        **{name: _version_of(name) for name in (*PACKAGES, *OPTIONAL)},
        **{f"operation {name}": f"counted by {found.source}" for name, found in sorted(user_formulas().items())},
        **{f"formulas of {name}": f"left out: {why}" for name, why in broken_formulas().items()},
    }


def conditions(device: torch.device) -> Facts:
    """The conditions under which a model is profiled on ``device``: figures of two reports are comparable if these agree."""
    return {
        **_versions(),
        "fvcore": _version_of("fvcore"),
        "platform": platform.platform(),
        **(_cuda(device) if device.type == "cuda" else _cpu()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _versions() -> Facts:
    return {
        "saconv-surgeon": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
    }


def _cpu() -> Facts:
    described = _cpu_info()
    return {
        "device_name": described.get("model name") or platform.processor() or platform.machine(),
        "clock_mhz": _number(described.get("cpu MHz")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "mkldnn": torch.backends.mkldnn.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cuda(device: torch.device) -> Facts:
    properties = torch.cuda.get_device_properties(device)
    return {
        "device_name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_bytes": properties.total_memory,
        "driver": _from_nvml(lambda nvml, handle: nvml.nvmlSystemGetDriverVersion(), device),
        "clock_mhz": _from_nvml(lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM), device),
        "largest_clock_mhz": _from_nvml(
            lambda nvml, handle: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM), device
        ),
        "tf32_matmul": _switch(lambda: torch.backends.cuda.matmul.allow_tf32),
        "tf32_cudnn": _switch(lambda: torch.backends.cudnn.allow_tf32),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
    }


def _switch(read: Callable[[], bool]) -> bool | None:
    """None if torch refuses to answer because the switch was set through its other interface."""
    try:
        return read()
    except RuntimeError:
        return None


def _from_nvml(ask: Callable[[Any, Any], Any], device: torch.device) -> str | int | None:
    """What NVIDIA's library says about a device; None if it is not installed or does not answer."""
    try:
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        answer = ask(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        return answer.decode() if isinstance(answer, bytes) else answer
    except Exception:
        return None


def _cpu_info() -> dict[str, str]:
    """The first processor's lines of ``/proc/cpuinfo``; empty if there is no such file."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
