"""Conversions whose layers became different things, trained, saved and read again."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

import saconv_surgeon as surgeon
from saconv_surgeon.models.exported.read_program import read_program
from tests import nets
from tests.surgery.plans import plan_of
from tests.surgery.test_mixed_plans import OWN, net, with_own

PRESERVING = {"0": ("saconv", {"parts": "contexts"}), "2": ("aws", {}), "4": ("saconv", {}), "5": ("aws", {})}


def trained(own, steps=4):
    """``net()`` with ``own``, after a few steps of SGD, in which every layer moves."""
    model = net()
    conversion = surgeon.convert(model, nets.X, plan=with_own(plan_of(model), own))
    operated = conversion.model.train()
    before = {name: p.detach().clone() for name, p in operated.named_parameters()}
    optimizer = torch.optim.SGD(operated.parameters(), lr=0.05, momentum=0.9)
    for i in range(steps):
        x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(i))
        loss = F.mse_loss(operated(x), x.new_ones(4, 4, 16, 16))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(not torch.equal(operated.get_parameter(f"{path}.weight"), before[f"{path}.weight"]) for path in "025")
    return replace(conversion, model=operated.eval())


@pytest.mark.parametrize("own", [PRESERVING, OWN], ids=["preserving", "with spconv"])
def test_a_trained_mix_comes_back_to_the_bit_in_a_new_process(own, tmp_path):
    conversion = trained(own)
    surgeon.save(conversion, tmp_path / "out")
    with torch.no_grad():
        torch.save(conversion.model(nets.X), tmp_path / "expected.pt")
    script = f"""
        import torch
        import saconv_surgeon as surgeon
        from tests import nets
        from tests.surgery.test_mixed_plans import net
        torch.set_num_threads(1)
        restored = surgeon.restore(net(), {str(tmp_path / "out")!r}).eval()
        print([type(m).__name__ for m in restored])
        with torch.no_grad():
            assert torch.equal(restored(nets.X), torch.load({str(tmp_path / "expected.pt")!r}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout.strip() == str([type(m).__name__ for m in conversion.model])


@pytest.mark.parametrize("own", [PRESERVING, OWN], ids=["preserving", "with spconv"])
def test_a_program_shows_each_layer_again_as_what_it_is(own, tmp_path):
    conversion = trained(own)
    surgeon.save(conversion, tmp_path / "out.pt2", example_inputs=nets.X)
    opened = read_program(tmp_path / "out.pt2").module
    for path in own:
        layer, again = conversion.model.get_submodule(path), opened.get_submodule(path)
        assert (type(again), again.options()) == (type(layer), layer.options())
    with torch.no_grad():
        assert torch.equal(opened(nets.X), conversion.model(nets.X))
    third = surgeon.convert(opened, nets.X, target="aws", include=["5"]) if "5" not in own else None
    assert third is None or {s.path for s in third.plan.sites if s.earlier} == set(own)


def test_a_program_of_what_is_not_here_is_read_without_it(tmp_path):
    conversion = trained(PRESERVING)
    sites = [replace(s, target="sponge") if s.path == "2" else s for s in conversion.plan.sites]
    plan = replace(conversion.plan, sites=tuple(sites))
    surgeon.save(replace(conversion, plan=plan), tmp_path / "out.pt2", example_inputs=nets.X)
    opened = read_program(tmp_path / "out.pt2").module
    assert isinstance(opened.get_submodule("0"), surgeon.SAConv2d)
    assert not isinstance(opened.get_submodule("2"), surgeon.ConvAWS2d)


def test_a_pickled_mix(tmp_path):
    conversion = trained(OWN)
    surgeon.save(conversion, tmp_path / "out.pt")
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=False)(nets.X), conversion.model(nets.X))


def test_a_checkpoint_that_is_converted_again(tmp_path):
    model = net()
    once = surgeon.convert(model, nets.X, include=["2"])
    surgeon.save(once, tmp_path / "one.pt", checkpoint={"model": model, "epoch": 3})
    found = torch.load(tmp_path / "one.pt", weights_only=False)
    both = surgeon.convert(found["model"], nets.X, target="aws")
    surgeon.save(both, tmp_path / "two.pt", checkpoint=found)
    again = torch.load(tmp_path / "two.pt", weights_only=False)
    assert [type(m) for m in again["model"]] == [type(m) for m in both.model] and again["epoch"] == 3
    with torch.no_grad():
        assert torch.equal(again["model"].eval()(nets.X), model(nets.X))


def test_folding_and_comparing_a_mix():
    conversion = trained(PRESERVING)
    folding = surgeon.fold(conversion.model, nets.X)
    assert folding.equivalence.passed
    found = surgeon.diff(net(), conversion.model, nets.X, timing=None)
    assert {f.path: (f.target, dict(f.options)) for f in found.freedom_b} == {
        "0": ("saconv", {"parts": "contexts"}),
        "4": ("saconv", {}),
    }
