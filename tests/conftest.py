"""Fixtures that several test files share."""

import os

# On processors with AMX, oneDNN's bfloat16 convolution of torch 2.13 multiplies memory that nobody wrote by zero: one plain
# ``nn.Conv2d`` of a few channels in two thousand gives NaN. Read when torch runs its first convolution.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state and on one thread, which is steadier and shares the cores fairly."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _settings_of_their_own(tmp_path_factory, monkeypatch):
    """Nothing is written among the user's settings, and no setting of the terminal shortens a report."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "settings"))


def pytest_collection_modifyitems(items):
    """GPU tests are skipped, not failed, where there is no device."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
