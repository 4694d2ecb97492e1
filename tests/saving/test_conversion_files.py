"""Saving and restoring: exact, atomic, and suspicious of what it reads."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import nets
from tests.saving.conversions import converted


def test_pickled_module(tmp_path):
    conversion = converted()
    surgeon.save(conversion, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded.eval()(nets.X), conversion.model.eval()(nets.X))


def test_conversion_that_is_not_equal_is_not_saved_unless_forced(tmp_path):
    class Looks(nets.OneConv):
        def forward(self, x):
            return super().forward(x) + (type(self.conv) is nn.Conv2d)

    conversion = converted(Looks())
    with pytest.raises(surgeon.NotEquivalentError):
        surgeon.save(conversion, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    surgeon.save(conversion, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize("name", ["out", "model.pt"])
def test_output_that_exists_is_asked_about(tmp_path, name):
    surgeon.save(converted(), tmp_path / name)
    with pytest.raises(surgeon.UsageError, match="--overwrite"):
        surgeon.save(converted(), tmp_path / name)
    surgeon.save(converted(), tmp_path / name, overwrite=True)


@pytest.mark.parametrize(
    ("path", "message"),
    [("model.onnx", "cannot save to"), ("model.pt2", "give example_inputs"), ("file", "is a file")],
)
def test_outputs_of_the_wrong_kind(tmp_path, path, message):
    (tmp_path / "file").write_text("x")
    with pytest.raises(surgeon.UsageError, match=message):
        surgeon.save(converted(), tmp_path / path)
