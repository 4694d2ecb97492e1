"""Models that the user's own code makes."""

import sys

import pytest

from saconv_surgeon.errors import UserCodeError
from saconv_surgeon.models.loading.model_spec import load_model


@pytest.mark.parametrize(
    ("spec", "depth", "bias"),
    [
        ("nets_of_mine.py:build", 1, True),
        ("nets_of_mine.py:build()", 1, True),
        ("nets_of_mine.py:build(2)", 2, True),
        ("nets_of_mine.py:build(depth=3, bias=False)", 3, False),
        ("nets_of_mine.py:build(depth=3, bias=False,)", 3, False),
        ("nets_of_mine.py:Net(bias=False)", 1, False),
        ("nets_of_mine.py:Holder.make(2)", 2, True),
        ("nets_of_mine.py:ready", 1, True),
        ("nets_of_mine:build(2)", 2, True),
    ],
)
def test_factories(folder, spec, depth, bias):
    loaded = load_model(spec)
    assert loaded.name == spec
    assert len(loaded.module.convs) == depth
    assert (loaded.module.convs[0].bias is not None) == bias


def test_file_in_a_package_is_imported_as_part_of_it():
    loaded = load_model("sample_models/tiny_resnet.py:build(depth=1)")
    assert type(loaded.module).__module__ == "sample_models.tiny_resnet"
    assert loaded.example_inputs().shape == (2, 3, 96, 96)


def test_two_files_of_one_name_are_two_modules(folder, tmp_path):
    for name, width in (("a", 3), ("b", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(
            f"from torch import nn\ndef build():\n    return nn.Conv2d(3, {width}, 3)\n"
        )
    assert [load_model(f"{name}/net.py:build").module.out_channels for name in "ab"] == [3, 5]
    sys.modules.pop("net", None)


def test_users_exception_is_kept_as_the_cause(folder):
    with pytest.raises(UserCodeError) as raised:
        load_model("nets_of_mine.py:broken")
    assert type(raised.value.__cause__) is RuntimeError
