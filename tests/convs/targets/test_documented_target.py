"""The target that the docs write, as an installed package: it gets every ability without a line in this project."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle_branches
from tests.cli.running import run

DOCS = (Path(__file__).parents[3] / "docs/targets.md").read_text(encoding="utf-8")
X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    section = DOCS.partition("## A target of your own")[2]
    (tmp_path / "my_package.py").write_text(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1])
    group, line = re.search(r"```toml\n\[project.entry-points.\"(.*?)\"\]\n(.*?)\n```", section, re.DOTALL).groups()
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_package", None)


def build():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, 2, groups=2),
        nn.Conv2d(8, 4, 3),
    )
    return oracle_branches.shake(model, 2).eval()


@pytest.mark.usefixtures("installed")
def test_it_is_converted_trained_saved_compared_and_folded(tmp_path):
    conversion = surgeon.convert(build(), X, target="middle", options={"size": "3"})
    first, second, third = conversion.plan.sites
    assert first.absorbs == {"bn": "1", "act": "2"}
    assert second.converts
    assert third.reason == "its kernel has no 3×3 middle"
    assert conversion.equivalence.bit_equal
    priced = surgeon.price(conversion, build(), X, timing=None)
    assert priced.after.macs - priced.before.macs == first.added_macs + second.added_macs
    assert priced.after.parameters - priced.before.parameters == first.added_parameters + second.added_parameters
    reverted = surgeon.revert(conversion.model)
    assert all(
        torch.equal(a, b) for a, b in zip(reverted.state_dict().values(), build().state_dict().values(), strict=True)
    )
    model = oracle_branches.shake(conversion.model, 5).eval()
    surgeon.save(conversion, tmp_path / "out")
    assert torch.equal(surgeon.restore(build(), tmp_path / "out").eval()(X), model(X))
    (found, other) = surgeon.diff(build(), model, X, timing=None).freedom_b
    assert found.use == other.use == "used"
    assert set(found.parts) == {"conv", "middle"}
    assert (found.target, found.options) == ("middle", {"size": "3"})
    folding = surgeon.fold(model, X)
    assert folding.equivalence.passed
    assert not [m for m in folding.model.modules() if isinstance(m, (surgeon.ConvertedLayer, nn.BatchNorm2d))]
    torch.testing.assert_close(folding.model(X), model(X), rtol=1e-5, atol=1e-5)
    names = [group["name"] for group in surgeon.parameter_groups(model, lr=0.1)]
    assert "new parts" in names
    layer = model[0]
    state = surgeon.published_state(layer, "middle")
    assert {"large.weight", "small.weight"} <= set(state)
    surgeon.load_published(layer, state, "middle")


@pytest.mark.usefixtures("installed")
def test_the_command_line_knows_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nimport torch\ndef build(): return nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 3))\n"
        "def example_inputs(): return torch.randn(1, 3, 16, 16)\n"
    )
    seen = run("inspect", "nets.py:build", "--to", "all")
    assert seen.exit_code == 0, seen.output
    assert re.search(r"middle\s+1 of 2\s+equal to the bit\s+\S+\s+×\S+\s+\+0\s+×1\.00", seen.output)
    seen = run("convert", "nets.py:build", "--to", "middle", "--option", "size=1", "--no-latency", "-o", "out")
    assert seen.exit_code == 0, seen.output
    assert run("fold", "out", "--no-latency", "-o", "folded.pt").exit_code == 0
