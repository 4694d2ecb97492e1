"""What a bug report needs to know about the machine and what is installed."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import torch

from saconv_surgeon._version import __version__

PACKAGES = ("fvcore", "safetensors", "rich", "click", "numpy")
OPTIONAL = ("torchvision", "timm", "ultralytics", "transformers", "segmentation-models-pytorch", "onnx", "onnxruntime")


def environment() -> dict[str, Any]:
    """Versions, devices and optional packages; None for a package that is not installed."""
    return {
        "saconv-surgeon": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,
        **{f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())},
        **{name: _version_of(name) for name in (*PACKAGES, *OPTIONAL)},
    }


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
