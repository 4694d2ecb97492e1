"""What the field does to layers with branches: frozen and exchanged norms, values that are not finite, optimisers, exports."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle_branches
from tests.operators import operator  # noqa: F401 - a fixture

X = torch.randn(2, 4, 12, 12, generator=torch.Generator().manual_seed(1))
BRANCHED = ("dbb", "acb", "repvgg")
DEPTHWISE = ("dilated-reparam", "wtconv")


class Frozen(nn.Module):
    """As torchvision's ``FrozenBatchNorm2d``: everything is a buffer."""

    def __init__(self, norm):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())
        self.eps = norm.eps

    def forward(self, x):
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


Frozen.__name__, Frozen.__module__ = "FrozenBatchNorm2d", "torchvision.ops.misc"


def build(groups=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=groups), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)
    ).eval()


def exchange(model, kind):
    for path, module in list(model.named_modules()):
        if type(module) is nn.BatchNorm2d:
            model.set_submodule(path, kind(module))
    return model.eval()


@pytest.mark.parametrize("target", BRANCHED)
def test_frozen_norms_do_not_hide_what_was_learnt(target):
    model = oracle_branches.shake(surgeon.convert(build(), X, target=target, include=["0"]).model, 3).eval()
    before = model(X)
    frozen = exchange(copy.deepcopy(model), Frozen)
    torch.testing.assert_close(frozen(X), before, rtol=1e-5, atol=1e-5)
    assert not frozen[0].is_at_rest()
    for folded in (surgeon.fold(frozen, X).model, surgeon.fold(frozen).model):
        torch.testing.assert_close(folded(X), before, rtol=1e-5, atol=1e-5)
    with pytest.raises(surgeon.SurgeonError):
        surgeon.revert(frozen)


def test_a_layer_that_computes_otherwise_is_not_folded():
    model = surgeon.convert(build(), X, target="acb", include=["0"]).model

    class Halved(type(model[0])):
        def computed(self, x):
            return super().computed(x) / 2

    oracle_branches.shake(model, 3).eval()
    model[0].__class__ = Halved
    folding = surgeon.fold(model, X)
    assert [row.reason for row in folding.layers] == ["Halved has a forward of its own"]
    assert torch.equal(folding.model(X), model(X))


@pytest.mark.parametrize("target", BRANCHED)
def test_norms_of_several_processes(target):
    model = oracle_branches.shake(surgeon.convert(build(), X, target=target, include=["0"]).model, 3).eval()
    before = model(X)
    other = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)).eval()
    torch.testing.assert_close(other(X), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(surgeon.fold(other, X).model(X), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", [*BRANCHED, "wtconv", "refconv"])  # dilated-reparam has a larger window
def test_what_is_not_finite_stays_where_it_was(target):
    groups = 4 if target in DEPTHWISE else 1
    x = X.clone()
    x[0, 0, 5, 5], x[1, 1, 2, 2] = float("inf"), float("nan")
    plain = build(groups)
    model = surgeon.convert(plain, X, target=target, include=["0"]).model
    found, wanted = model[0](x), plain[:3](x) if model[0].absorbed else plain[0](x)
    assert torch.equal(torch.nan_to_num(found, 7.0), torch.nan_to_num(wanted, 7.0))


@pytest.mark.parametrize("target", BRANCHED)
def test_a_batch_that_is_not_finite_moves_statistics_once(target):
    model = oracle_branches.shake(surgeon.convert(build(), X, target=target, include=["0"]).model, 3).train()
    calls = {
        name: norm.num_batches_tracked.clone() for name, norm in model.named_modules() if hasattr(norm, "running_mean")
    }
    x = X.clone()
    x[0, 0, 5, 5] = float("inf")
    model(x)
    assert calls
    assert all(model.get_submodule(name).num_batches_tracked == before + 1 for name, before in calls.items())


def test_a_silent_part_that_overflows_changes_nothing():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4)).eval()
    plain[0].weight.data.mul_(0.05)
    plain.half()
    big = (X.abs() * 8000 + 30000).clamp(max=60000).half()
    model = surgeon.convert(plain, X.half(), target="wtconv").model
    assert torch.equal(model(big), plain(big))


@pytest.mark.parametrize("target", ["dilated-reparam", "dcnv2"])
@pytest.mark.usefixtures("operator")
def test_an_optimiser_goes_on(target):
    model = build(4 if target == "dilated-reparam" else 1).train()
    optimizer = torch.optim.Adam(model.parameters())
    model(X).square().mean().backward()
    optimizer.step()
    converted = surgeon.convert(model, X, target=target, include=["0"]).model.train()
    surgeon.carry_optimizer(optimizer, model, converted)
    kept = {name for name, p in converted.named_parameters() if p in optimizer.state}
    assert "0.weight" not in kept
    assert {"0.bias", "3.weight"} <= kept
    converted(X).square().mean().backward()
    optimizer.step()


def test_a_norm_that_the_model_keeps_in_eval_mode_stays_outside():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def train(self, mode=True):
            super().train(mode)
            self.bn.eval()
            return self

        def forward(self, x):
            return self.bn(self.conv(x))

    torch.manual_seed(0)
    net = oracle_branches.shake(Net(), 2).eval()
    conversion = surgeon.convert(net, X, target="dbb")
    (site,) = conversion.plan.sites
    assert site.not_absorbed == "bn stays in eval mode when the model is trained, which its own code sees to"
    with torch.no_grad():
        assert torch.equal(conversion.model.train()(X), net.train()(X))


@pytest.mark.parametrize("target", [*BRANCHED, "dilated-reparam"])
def test_maps_of_one_pixel_are_left_alone(target):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 3, padding=1, groups=4)).eval()
    (site,) = surgeon.inspect(model, X, target=target)
    assert site.reason_code == "map-of-one"


@pytest.mark.parametrize("side", [15, 16])
def test_wavelets_are_exported_for_even_and_odd_sizes(tmp_path, side):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4)).eval()
    layer = oracle_branches.shake(surgeon.convert(model, X, target="wtconv").model, 1).eval()
    size = torch.export.Dim("height", min=4, max=64), torch.export.Dim("width", min=4, max=64)
    program = torch.export.export(layer, (torch.randn(2, 4, side, side),), dynamic_shapes=({2: size[0], 3: size[1]},))
    for shape in ((12, 14), (13, 15), (15, 12)):
        x = torch.randn(2, 4, *shape)
        torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("operator")
def test_the_state_of_a_plain_model_is_doubled_where_the_kernel_is():
    plain, other = build(), build()
    oracle_branches.shake(plain, 9)
    layer = surgeon.convert(other, X, target="dcnv2", include=["0"]).model
    found = layer.load_state_dict(plain.state_dict(), strict=False)
    assert all("conv_offset" in key for key in found.missing_keys)
    torch.testing.assert_close(layer.eval()(X), plain.eval()(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("target", "source"), [("repvgg", "repvgg"), ("acb", "acnet"), ("dbb", "dbb")])
def test_what_the_authors_do_not_have_is_not_written(target, source):
    for conv, why in (
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", bias=False), "pads with zeros"),
        (nn.Conv2d(4, 4, 3, padding=1), "has no bias"),
        (nn.Conv2d(4, 4, 3, padding=1, bias=False), "none followed"),
    ):
        model = surgeon.convert(nn.Sequential(conv).eval(), X, target=target).model
        with pytest.raises(ValueError, match=why):
            surgeon.published_state(model, source)
