"""Whole models with targets that have branches: converted, trained, saved, compared, folded."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import oracle_branches
from tests.convs.test_branches import MERGED
from tests.operators import operator  # noqa: F401 - a fixture

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
TARGETS = (*MERGED, "wtconv")
UNSEEN = "average.bn.bn.weight"
"""A scale of each channel that the norm after the average takes out again."""


class Net(nn.Module):
    """A norm with and one without an activation, a convolution without a norm, a depthwise one, a strided one."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.SiLU()
        self.strided = nn.Conv2d(8, 8, 3, 2, padding=1, bias=False)
        self.after = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        x = self.act(self.norm(self.depthwise(self.stem(x))))
        return self.last(self.after(self.strided(x)) + x[..., ::2, ::2])


def build():
    torch.manual_seed(0)
    model = Net()
    oracle_branches.shake(model, 3, 0.2)
    return model.eval()


def converted(target):
    return surgeon.convert(build(), X, target=target)


def trained(conversion, steps=3):
    """Real steps in training mode, so that the statistics of all norms move as well."""
    model = conversion.model.train()
    optimizer = torch.optim.SGD(surgeon.parameter_groups(model, lr=0.05), momentum=0.9)
    generator = torch.Generator().manual_seed(5)
    for _ in range(steps):
        x = torch.randn(8, 3, 16, 16, generator=generator)
        optimizer.zero_grad()
        (model(x) - x.mean()).square().mean().backward()
        optimizer.step()
    return model.eval()


def layers(model):
    return {path: m for path, m in model.named_modules() if isinstance(m, surgeon.ConvertedLayer)}


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_changes_until_it_is_trained(target):
    conversion = converted(target)
    assert layers(conversion.model)
    assert conversion.equivalence.passed
    assert conversion.equivalence.bit_equal or target == "dilated-reparam"
    with torch.no_grad():
        plain, model = build().train(), copy.deepcopy(conversion.model).train()
        torch.testing.assert_close(model(X), plain(X), rtol=0, atol=1e-5 if target == "dilated-reparam" else 0)
    priced = surgeon.price(conversion, build(), X, timing=None)
    added = sum(site.added_macs for site in conversion.plan.sites if site.converts)
    assert priced.after.macs - priced.before.macs == added


@pytest.mark.parametrize("target", TARGETS)
def test_every_new_part_learns(target):
    conversion = converted(target)
    before = {name: p.clone() for name, p in conversion.model.named_parameters()}
    model = trained(conversion)
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n]) and not n.endswith(UNSEEN)]
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert set(still) == set(frozen)
    assert all(name.endswith(".weight") for name in frozen)
    assert bool(frozen) == (target == "refconv")


@pytest.mark.parametrize("target", MERGED)
def test_a_trained_model_folds_to_plain_convolutions(target):
    model = trained(converted(target))
    folding = surgeon.fold(model, X)
    assert folding.equivalence.passed
    kinds = {type(m) for m in folding.model.modules() if isinstance(m, (nn.Conv2d, surgeon.ConvertedLayer))}
    assert kinds == {nn.Conv2d}
    torch.testing.assert_close(folding.model(X), model(X), rtol=1e-5, atol=1e-5)
    plain = surgeon.fold(build(), X, fold_norms=True).model
    price = [surgeon.profile(m, X, timing=None) for m in (plain, folding.model)]
    if target != "dilated-reparam":
        assert price[1].macs == price[0].macs
        assert abs(price[1].parameters - price[0].parameters) <= 24  # a bias for each norm that went in, or stayed
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folding.model.modules())


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_saved_restored_and_taken_back(tmp_path, target):
    conversion = converted(target)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            surgeon.revert(conversion.model).state_dict().values(), build().state_dict().values(), strict=True
        )
    )
    model = trained(conversion)
    surgeon.save(conversion, tmp_path / "out")
    again = surgeon.restore(build(), tmp_path / "out").eval()
    assert torch.equal(again(X), model(X))
    applied = surgeon.apply(build(), conversion.plan)
    applied.load_state_dict(model.state_dict())
    assert torch.equal(applied.eval()(X), model(X))


@pytest.mark.parametrize("target", TARGETS)
def test_diff_says_how_large_each_part_is(target):
    model = trained(converted(target))
    record = surgeon.diff(build(), model, X, timing=None)
    assert {f.path for f in record.freedom_b} == set(layers(model))
    for found in record.freedom_b:
        assert found.use == "used"
        assert found.target == target
        assert next(iter(found.parts)) == "conv"
        assert all(value > 0 for value in found.parts.values())
        layer = model.get_submodule(found.path)
        names = [name for name, _ in layer.named_children() if name not in ("bn", "act")]
        assert len(found.parts) >= min(len(names), 2)


@pytest.mark.parametrize("target", MERGED)
def test_exports_of_the_folded_model_hold_plain_convolutions(tmp_path, target):
    model = trained(converted(target))
    folding = surgeon.fold(model, X)
    surgeon.save(folding, tmp_path / "folded.pt2", example_inputs=X)
    program = torch.export.load(tmp_path / "folded.pt2")
    operators = {node.target for node in program.graph.nodes if node.op == "call_function"}
    names = {str(called).split(".")[1] for called in operators}
    assert "conv2d" in names
    assert not names & {"avg_pool2d", "constant_pad_nd", "conv_transpose2d"}
    torch.testing.assert_close(program.module()(X), model(X), rtol=1e-4, atol=1e-4)
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    surgeon.save(folding, tmp_path / "folded.onnx", example_inputs=X)
    kinds = {node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node}
    assert "Conv" in kinds
    assert not kinds & {"AveragePool", "Pad", "ConvTranspose", "BatchNormalization"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_trained_model_is_exported_as_it_is(tmp_path, target):
    conversion = converted(target)
    model = trained(conversion)
    surgeon.save(conversion, tmp_path / "whole.pt2", example_inputs=X)
    torch.testing.assert_close(torch.export.load(tmp_path / "whole.pt2").module()(X), model(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["refconv", "dbb", "acb", "repvgg"])
def test_a_norm_that_is_not_constant_stays_outside(target):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU()).eval()
    conversion = surgeon.convert(model, X, target=target, include=["0"])
    (site,) = conversion.plan.sites
    assert not site.absorbs
    if target != "refconv":
        assert site.not_absorbed == "its GroupNorm is not a constant scale and shift in inference"
    found = trained_on(conversion.model)
    folding = surgeon.fold(found, X)
    assert type(folding.model[0]) is nn.Conv2d
    torch.testing.assert_close(folding.model(X), found(X), rtol=1e-5, atol=1e-5)


def trained_on(model):
    oracle_branches.shake(model, 7)
    return model.eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", TARGETS)
def test_half_precision(target, dtype):
    model = build().to(dtype)
    conversion = surgeon.convert(model, X.to(dtype), target=target)
    assert conversion.equivalence.bit_equal or target == "dilated-reparam"
    oracle_branches.shake(conversion.model, 1, 0.1)
    folding = surgeon.fold(conversion.model.eval(), X.to(dtype))
    exact = copy.deepcopy(conversion.model).double().eval()(X.to(dtype).double())
    noise = (conversion.model(X.to(dtype)).double() - exact).abs().max()
    assert (folding.model(X.to(dtype)).double() - exact).abs().max() <= 2 * noise + 1e-3


@pytest.mark.parametrize("target", TARGETS)
def test_gradients_are_those_of_differences(target):
    conversion = surgeon.convert(build().double(), X.double(), target=target)
    model = trained_on(conversion.model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # the same statistics for every call
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    chosen = {n: model.get_parameter(n) for n in names if not n.startswith("last")}
    x = X.double()[:, :, :8, :8]
    loss = model(x).square().sum()
    gradients = torch.autograd.grad(loss, list(chosen.values()))
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradients]
    wanted = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -1):
            for p, d in zip(chosen.values(), directions, strict=True):
                p.add_(sign * step * d)
            values.append(float(model(x).square().sum()))
            for p, d in zip(chosen.values(), directions, strict=True):
                p.sub_(sign * step * d)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.usefixtures("operator")
def test_dcnv2_starts_as_the_convolution():
    conversion = surgeon.convert(build(), X, target="dcnv2")
    assert conversion.equivalence.passed
    assert len(layers(conversion.model)) == 4
    model = trained_on(conversion.model)
    record = surgeon.diff(build(), model, X, timing=None)
    assert all(set(found.parts) == {"conv", "conv_offset"} for found in record.freedom_b)


def test_tolerance_takes_out_what_hardly_contributes():
    model = trained(converted("wtconv"), steps=0)
    (layer,) = layers(model).values()
    oracle_branches.shake(layer, 1)
    with torch.no_grad():
        layer.wavelet_scale[0].weight.mul_(1e-5)
    kept = surgeon.fold(model, X)
    assert type(kept.model.depthwise).__name__ == "WTConv2d"
    simpler = surgeon.fold(model, X, tolerance=1e-2)
    assert type(simpler.model.depthwise) is nn.Conv2d
    torch.testing.assert_close(simpler.model(X), model(X), rtol=1e-3, atol=1e-3)
    merged = trained(converted("repvgg"))
    folding = surgeon.fold(merged, X, tolerance=0.5)  # nothing is saved by taking out what merges anyway
    torch.testing.assert_close(folding.model(X), merged(X), rtol=1e-5, atol=1e-5)


PUBLISHED = {
    "refconv": ("refconv", {"weight", "convmap.weight"}),
    "repvgg": (
        "repvgg",
        {"rbr_dense.conv.weight", "rbr_1x1.conv.weight"}
        | {f"{name}.{k}" for name in ("rbr_dense.bn", "rbr_1x1.bn", "rbr_identity") for k in ("weight", "running_var")},
    ),
    "acb": (
        "acnet",
        {f"{name}_conv.weight" for name in ("square", "ver", "hor")}
        | {f"{name}_bn.{k}" for name in ("square", "ver", "hor") for k in ("weight", "bias", "running_mean")},
    ),
    "dbb": (
        "dbb",
        {"dbb_origin.conv.weight", "dbb_origin.bn.weight", "dbb_1x1.conv.weight", "dbb_1x1.bn.bias"}
        | {"dbb_avg.conv.weight", "dbb_avg.bn.bn.weight", "dbb_avg.avgbn.weight"}
        | {
            "dbb_1x1_kxk.idconv1.weight",
            "dbb_1x1_kxk.bn1.bn.weight",
            "dbb_1x1_kxk.conv2.weight",
            "dbb_1x1_kxk.bn2.weight",
        },
    ),
    "dilated-reparam": (
        "unireplknet",
        {"lk_origin.weight", "origin_bn.weight", "dil_conv_k5_1.weight", "dil_conv_k3_2.weight", "dil_conv_k3_3.weight"}
        | {"dil_bn_k5_1.weight", "dil_bn_k3_2.running_mean", "dil_bn_k3_3.bias"},
    ),
    "wtconv": (
        "wtconv",
        {"base_conv.weight", "base_scale.weight", "wavelet_convs.0.weight", "wavelet_scale.0.weight"}
        | {"wt_filter", "iwt_filter"},
    ),
}
"""Names in the authors' own code, of a block that stands for a convolution and the norm after it."""


def block(target):
    """One layer that has its norm inside, where the target wants that."""
    torch.manual_seed(0)
    groups = 4 if target in ("dilated-reparam", "wtconv") else 1
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(4)).eval()
    return surgeon.convert(model, torch.randn(1, 4, 9, 9), target=target).model[0]


@pytest.mark.parametrize("target", PUBLISHED)
def test_state_dicts_of_the_authors_are_loaded_and_written(target):
    source, names = PUBLISHED[target]
    layer = oracle_branches.shake(block(target), 4).eval()
    state = surgeon.published_state(layer, source)
    assert names <= set(state)
    ours = ("bn.", "point.", "identity.", "column.", "row.", "average.", "sequence.", "k3_", "k5_")
    assert not [name for name in state if name.startswith(ours)]
    fresh = block(target)
    found = surgeon.load_published(fresh, {f"module.stage1.0.{k}": v for k, v in state.items()}, source)
    assert not found.missing
    assert not found.unexpected
    x = torch.randn(2, 4, 9, 9)
    assert torch.equal(fresh.eval()(x), layer(x))
    with pytest.raises(ValueError, match="has no"):
        surgeon.published_state(layer, "mmcv")
    broken = {k: v for k, v in state.items() if k != next(iter(names))}
    with pytest.raises(ValueError, match="is missing"):
        surgeon.load_published(block(target), broken, source)


def test_a_depthwise_dbb_has_the_authors_names():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4)).eval()
    layer = surgeon.convert(model, torch.randn(1, 4, 9, 9), target="dbb").model[0]
    state = surgeon.published_state(layer, "dbb")
    assert {"dbb_1x1_kxk.conv1.weight", "dbb_avg.avgbn.weight"} <= set(state)
    assert not [name for name in state if name.startswith(("dbb_1x1.", "dbb_avg.conv"))]


def test_statistics_of_dbb_are_those_of_the_map_without_its_padding():
    layer = block("dbb").train()
    x = torch.randn(2, 4, 9, 9) + 3
    layer(x)
    inner = layer.sequence.bn1.bn  # behind the identity
    torch.testing.assert_close(inner.running_mean, 0.1 * x.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
