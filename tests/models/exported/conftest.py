"""Fixtures that several test files here share."""

import importlib
import sys
import textwrap

import pytest
import torch
from torch.export import Dim

from tests.models.exported.commands import SOURCE, run


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """A program whose sizes are dynamic, inputs and outputs of its model, and no source any more."""
    place = tmp_path_factory.mktemp("program")
    (place / "vanished_net.py").write_text(textwrap.dedent(SOURCE))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        vanished_net = importlib.import_module("vanished_net")
    torch.manual_seed(0)
    model = vanished_net.Net().eval()
    x = torch.randn(2, 3, 32, 32)
    sizes = {"x": {0: Dim("batch", min=1, max=16), 2: Dim.AUTO, 3: Dim.AUTO}, "scale": None}
    exported = torch.export.export(model, (x, torch.tensor(2.0)), dynamic_shapes=sizes)
    torch.export.save(exported, place / "net.pt2")
    inputs = [(torch.randn(*shape), torch.tensor(3.0)) for shape in ((1, 3, 64, 48), (3, 3, 40, 21), (16, 3, 32, 32))]
    with torch.no_grad():
        outputs = [model(*given) for given in inputs]
    del sys.modules["vanished_net"]
    (place / "vanished_net.py").unlink()
    return place / "net.pt2", inputs, outputs


@pytest.fixture(scope="session")
def converted_program(program):
    """The program after a conversion on the command line."""
    file = program[0].with_name("out.pt2")
    result = run("convert", program[0], "-o", file, "--no-latency")
    assert result.exit_code == 0, result.output
    assert "bit-identical" in result.stdout
    return file
