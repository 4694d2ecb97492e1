"""What a file offers that could make a model, read without running it."""

import pytest

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.loading.offered_factories import offered_by, source_of

SOURCE = """
raise RuntimeError("nobody asked to run this")
import enum, torch
from dataclasses import dataclass
from torch import nn
from .parts import Head, _hidden
class Base(nn.Module):
    def __init__(self, width, depth: int = 3, *, act="relu"): ...
class Child(Base): ...
class Borrowed(timm.models.ResNet): ...
@dataclass
class Config: ...
class Kind(enum.Enum): ...
class Wrong(ValueError): ...
class _Private(nn.Module): ...
def build(width: int = 4, *, pretrained=False) -> Base: ...
def accuracy(x) -> float: ...
def log(x) -> None: ...
def main(): ...
def example_inputs(): ...
try:
    def guarded(): ...
except ImportError: ...
"""
OFFERED = [
    "Head(…)",
    "Base(width, depth: int=3, *, act='relu')",
    "Child(width, depth: int=3, *, act='relu')",
    "Borrowed(…)",
    "build(width: int=4, *, pretrained=False)",
    "guarded()",
]


@pytest.fixture
def nets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_offered.py").write_text(SOURCE)
    (tmp_path / "pkg_offered").mkdir()
    (tmp_path / "pkg_offered" / "__init__.py").write_text("from .small import Small\nraise RuntimeError\n")
    (tmp_path / "pkg_offered" / "small.py").write_text("from torch import nn\nclass Small(nn.Module): ...\n")
    return tmp_path


def test_offered(nets):
    assert list(map(str, offered_by(nets / "nets_offered.py"))) == OFFERED
    (nets / "broken.py").write_text("def build(:\n")
    assert offered_by(nets / "broken.py") == offered_by(nets / "no_such.py") == ()


@pytest.mark.parametrize(
    "spec",
    ["nets_offered.py", "nets_offered", "nets_offered:", "nets_offered.py:", "./nets_offered.py", "nets_offered.py:3"],
)
def test_bare_file_lists_its_factories(nets, spec):
    with pytest.raises(ModelError) as raised:
        load_model(spec)
    for offered in OFFERED:
        assert f"nets_offered.py:{offered}" in str(raised.value)
    assert "accuracy" not in str(raised.value)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("pkg_offered", "pkg_offered:Small(…)"),
        ("pkg_offered/", "pkg_offered:Small(…)"),
        ("pkg_offered.small", "pkg_offered.small:Small()"),
        ("pkg_offered/small.py", "pkg_offered/small.py:Small()"),
        ("pkg_offered/small", "pkg_offered/small.py:Small()"),
        ("pkg_offered/small.py:1Small", "did you mean pkg_offered/small.py:Small()?"),
        ("timm", "timm:name"),
        ("no_such.py", "no_such.py does not exist"),
        ("no_such_module.at_all", "there is no model"),
    ],
)
def test_bare_package_or_module(nets, spec, line):
    with pytest.raises(ModelError) as raised:
        load_model(spec)
    assert line in str(raised.value)


def test_factory_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few_nets.py").write_text(
        "from torch import nn\nfrom torch.nn.functional import conv2d\nready = nn.Conv2d(3, 8, 3)\n"
        "class TinyNet(nn.Module):\n    def __init__(self, width): super().__init__()\n"
    )
    for wrong, meant in (("tinynet", "'TinyNet'"), ("redy", "'ready'"), ("TinyNets", "'TinyNet'")):
        with pytest.raises(ModelError, match=f"did you mean {meant}"):
            load_model(f"few_nets.py:{wrong}")
    with pytest.raises(ModelError, match=r"it has\n  few_nets.py:TinyNet\(width\)"):
        load_model("few_nets.py:conv")


def test_source_of(nets):
    assert source_of("pkg_offered.small") == nets / "pkg_offered" / "small.py"
    assert source_of("torch.nn.modules.conv").name == "conv.py"
    assert source_of("torch.no_such") is source_of("no_such.torch") is source_of("sys") is None
