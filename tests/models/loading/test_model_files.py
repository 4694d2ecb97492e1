"""Modules in files."""

import sys

import pytest
import torch

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.model_spec import load_model
from tests import nets


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: {"epoch": 3, "ema": m, "model": None}, lambda m: {"model": m}])
def test_pickled_module_needs_trust(tmp_path, wrap):
    model = nets.OneConv()
    torch.save(wrap(model), tmp_path / "m.pt")
    with pytest.raises(UntrustedError, match=r"tests\.nets\.OneConv") as raised:
        load_model(str(tmp_path / "m.pt"))
    assert "--trust" in str(raised.value)
    loaded = load_model(str(tmp_path / "m.pt"), trust=True).module
    assert torch.equal(loaded(nets.X), model(nets.X))


def test_refused_file_runs_no_code(tmp_path):
    import os

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "proof"),)

    torch.save({"model": Evil()}, tmp_path / "m.pt")
    with pytest.raises(UntrustedError, match=r"posix.mkdir"):
        load_model(str(tmp_path / "m.pt"))
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("size", [0, 10, 300])
@pytest.mark.parametrize("trust", [False, True])
def test_truncated_and_random_files(tmp_path, size, trust):
    torch.save(nets.OneConv(), tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:size])
    (tmp_path / "noise.pt").write_bytes(bytes(range(256))[:size])
    for name in ("cut.pt", "noise.pt"):
        with pytest.raises(ModelError, match=r"cannot be loaded|is cut off|it is empty"):
            load_model(str(tmp_path / name), trust=trust)


def test_module_of_a_class_that_cannot_be_imported(tmp_path, folder):
    torch.save(load_model("nets_of_mine.py:build").module, tmp_path / "m.pt")
    del sys.modules["nets_of_mine"]
    (folder / "nets_of_mine.py").unlink()
    with pytest.raises(ModelError, match="needs code that cannot be imported here"):
        load_model(str(tmp_path / "m.pt"), trust=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(2)}, "holds weights only; give the code as MODEL"),
        ({"state_dict": {"weight": torch.zeros(2)}}, "holds weights only"),
        ([1, 2], "holds a list without a model in it"),
    ],
)
def test_files_without_a_model(tmp_path, content, message):
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "m.pt"))
