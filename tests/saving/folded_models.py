"""What folded models are tried on."""

import pytest
import torch

from tests.folding.models import X


def needs_onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


def sizes():
    return [X, X[:1], torch.randn(3, 3, 40, 23), torch.randn(1, 3, 9, 9)]
