"""Exported programs whose inputs or outputs are a library's own classes."""

import subprocess
import sys

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.exported.read_program import read_program

REGISTERED = """
import dataclasses
import torch
from torch.utils import _pytree

@dataclasses.dataclass
class Output:
    map: torch.Tensor

_pytree.register_dataclass(Output, serialized_type_name="{name}")
"""


@pytest.fixture
def with_containers(tmp_path, monkeypatch):
    """A program that returns a class of its own, which this process does not know."""

    def make(name):
        (tmp_path / "makes_it.py").write_text(
            REGISTERED.format(name=name)
            + "net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU()).eval()\n"
            + "class Net(torch.nn.Module):\n"
            + "    def __init__(self):\n        super().__init__()\n        self.net = net\n"
            + "    def forward(self, x):\n        return Output(self.net(x))\n"
            + f"torch.export.save(torch.export.export(Net(), (torch.ones(1, 2, 9, 9),)), {str(tmp_path / 'net.pt2')!r})\n"
        )
        subprocess.run([sys.executable, str(tmp_path / "makes_it.py")], check=True)
        return tmp_path / "net.pt2"

    monkeypatch.syspath_prepend(tmp_path)
    return make


@pytest.mark.slow
def test_containers_that_nobody_knows(with_containers):
    path = with_containers("somewhere.outputs.Output")
    with pytest.raises(ModelError, match=r"containers of somewhere, which torch knows only if that can be imported"):
        read_program(path)


def test_containers_of_an_installed_library(with_containers, tmp_path, monkeypatch):
    """The module that defines them is imported; nothing but a library's own modules of that kind is."""
    path = with_containers("transformers.models.pretend.modeling_pretend.Output")
    real = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "transformers"}
    place = tmp_path / "transformers" / "models" / "pretend"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        (folder / "__init__.py").write_text("")
    name = "transformers.models.pretend.modeling_pretend.Output"
    (place / "modeling_pretend.py").write_text(REGISTERED.format(name=name))
    try:
        forget("transformers")
        module = read_program(path).module
    finally:
        forget("transformers")
        sys.modules.update(real)
    conversion = surgeon.convert(module, torch.ones(1, 2, 9, 9))
    assert (conversion.converted, conversion.equivalence.bit_equal) == (1, True)
    assert type(conversion.model(torch.ones(1, 2, 9, 9))).__name__ == "Output"


def forget(package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]
