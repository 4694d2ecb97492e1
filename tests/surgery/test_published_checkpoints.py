"""Checkpoints of whole published models: names with prefixes, norms beside the layers, parts that have no place here."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon import load_published, published_state
from tests import oracle, published
from tests.operators import whole_operator  # noqa: F401 - a fixture

X = torch.randn(2, 3, 24, 28, generator=torch.Generator().manual_seed(4))


class Bottleneck(nn.Module):
    """The names of torchvision's and MMDetection's ResNets."""

    def __init__(self, c=8):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv3, self.bn3 = nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn3(self.conv3(torch.relu(self.bn2(self.conv2(y))))) + x)


class Backbone(nn.Module):
    def __init__(self, head=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Bottleneck(), Bottleneck())
        self.fc = nn.Linear(8, 5) if head else None

    def forward(self, x):
        x = self.layer1(torch.relu(self.bn1(self.conv1(x))))
        return x if self.fc is None else self.fc(x.mean((2, 3)))


def detectors_state(seed=0):
    """A checkpoint in DetectoRS' layout: AWS everywhere, deformable SAC in the middle, RFP's own convolution, a neck."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in Backbone().state_dict().items():
        noise = torch.randn(value.shape, generator=g) * 0.3 if value.is_floating_point() else value
        state[name] = noise.abs() + 0.5 if name.endswith(("running_var", "bn1.weight", "bn2.weight")) else noise
    for name in [n for n in state if n.endswith("weight") and state[n].dim() == 4]:
        layer = name.removesuffix("weight")
        c_out = state[name].shape[0]
        state[f"{layer}weight_gamma"] = 0.3 + torch.rand(c_out, 1, 1, 1, generator=g) * 0.1
        state[f"{layer}weight_beta"] = torch.randn(c_out, 1, 1, 1, generator=g) * 0.02
        if layer.endswith("conv2."):
            sac = published.random_state(8, 8, bias=False, seed=seed + len(state))
            state |= {f"{layer}{n}": v for n, v in sac.items()}
            for offset in ("offset_s", "offset_l"):
                state[f"{layer}{offset}.weight"] = torch.randn(18, 8, 3, 3, generator=g) * 0.1
                state[f"{layer}{offset}.bias"] = torch.randn(18, generator=g) * 0.1
    whole = {f"backbone.{name}": value for name, value in state.items()}
    whole["backbone.layer1.0.rfp_conv.weight"] = torch.zeros(8, 4, 1, 1)
    whole["neck.lateral_convs.0.conv.weight"] = torch.zeros(1)
    return whole


def detectors_forward(state, x):
    """What that backbone computes, from the equations: standardised kernels everywhere, deformable SAC in the middle."""
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    part = lambda start: {n.removeprefix(start): v for n, v in state.items() if n.startswith(start)}
    aws = lambda x, start, **rest: nn.functional.conv2d(x, published.standardised(part(start)), **rest)

    def norm(x, start):
        s = part(start)
        return nn.functional.batch_norm(x, s["running_mean"], s["running_var"], s["weight"], s["bias"])

    x = torch.relu(norm(aws(x, "conv1.", stride=2, padding=3), "bn1."))
    for i in range(2):
        b = f"layer1.{i}."
        y = torch.relu(norm(aws(x, f"{b}conv1."), f"{b}bn1."))
        y = torch.relu(norm(published.deformable(part(f"{b}conv2."), y), f"{b}bn2."))
        x = torch.relu(norm(aws(y, f"{b}conv3."), f"{b}bn3.") + x)
    return x


def detectors_model(absorb=False, head=False):
    model = surgeon.convert(Backbone(head), X, target="saconv-deform", include=["*.conv2"], absorb=absorb).model
    return surgeon.convert(model, X, target="aws").model.eval()


@pytest.mark.usefixtures("whole_operator")
@pytest.mark.parametrize("absorb", [False, True])
def test_detectors_backbone_gives_what_it_gives_there_and_back(absorb):
    state = detectors_state()
    model = detectors_model(absorb)
    loaded = load_published(model, state, "detectors")
    assert loaded.missing == ()
    assert set(loaded.unexpected) == {"layer1.0.rfp_conv.weight", "neck.lateral_convs.0.conv.weight"}
    wanted = detectors_forward(state, X)
    assert oracle.relative_error(model(X), wanted.double()) < 1e-5
    back = published_state(model, "detectors")
    assert set(back) == {n.removeprefix("backbone.") for n in state} - set(loaded.unexpected)
    assert oracle.relative_error(detectors_forward(back, X), wanted.double()) < 1e-5


@pytest.mark.usefixtures("whole_operator")
def test_a_new_head_is_missing_and_stays():
    model = detectors_model(head=True)
    before = model.fc.weight.clone()
    loaded = load_published(model, detectors_state(), "detectors")
    assert loaded.missing == ("fc.weight", "fc.bias")
    assert torch.equal(model.fc.weight, before)


@pytest.mark.usefixtures("whole_operator")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backbone.layer1.1.conv2.switch.bias"), r"layer1.1.conv2.switch.bias is missing"),
        (lambda s: s.pop("backbone.layer1.0.conv1.weight_gamma"), r"layer1.0.conv1.weight_gamma is missing"),
        (lambda s: s.update({"backbone.layer1.0.conv2.extra": torch.zeros(1)}), r"layer1.0.conv2.extra is unknown"),
        (lambda s: s.update({"backbone.bn1.weight": torch.zeros(9)}), r"bn1.weight is \(9,\), needed \(8,\)"),
    ],
)
def test_what_does_not_fit_changes_nothing(change, message):
    state, model = detectors_state(), detectors_model()
    change(state)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_published(model, state, "detectors")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.usefixtures("whole_operator")
def test_a_plain_checkpoint_loads_into_standardised_layers():
    """ImageNet weights, as DetectoRS starts from: the statistics follow from the kernels."""
    plain = {f"module.{k}": v for k, v in Backbone().state_dict().items()}
    model = surgeon.convert(Backbone(), X, target="aws").model.eval()
    load_published(model, plain, "mmcv")
    reference = Backbone().eval()
    reference.load_state_dict({k.removeprefix("module."): v for k, v in plain.items()})
    assert torch.equal(model(X), reference(X))


def test_a_bias_that_the_source_ignores_goes_where_it_counts():
    state = published.random_state()
    layer = surgeon.SAConv2d(4, 6, 3, padding=1)
    load_published(layer, state, "mmcv")
    with torch.no_grad():
        layer.bias += torch.linspace(-1, 1, 6)
    x = torch.randn(2, 4, 9, 11)
    back = published_state(layer, "mmcv")
    assert not back["bias"].any()
    assert oracle.relative_error(published.saconv(back, x), layer(x).detach().double()) < 1e-6
    assert layer.bias.any()  # left as it was


@pytest.mark.parametrize(
    ("layer", "source", "message"),
    [
        (surgeon.SAConv2d(4, 4, 3, padding=1), "seed", "block has a norm of its own; convert with absorb"),
        (surgeon.SAConv2d(4, 4, 3), "mmcv", r"runs only where 2p = d\(k-1\)"),
        (surgeon.SAConv2d(4, 4, 3, padding=1, padding_mode="reflect"), "mmcv", "padded with zeros"),
        (surgeon.SAConvBlock(4, 4, 3), "mmcv", "no norm and no activation inside"),
        (surgeon.ConvAWS2d(4, 4, 3, padding=1, padding_mode="reflect"), "mmcv", "pads with zeros only"),
        (surgeon.SPConv2d(4, 4, 3), "seed", "seed has no SPConv2d"),
        (surgeon.SAConv2d(4, 4, 3, padding=1), "spconv", "spconv has no SAConv2d"),
        (surgeon.DeformableSAConv2d(4, 4, 3, padding=1, bn=nn.BatchNorm2d(4)), "seed", "no deformable branches"),
        (surgeon.SAConv2d(4, 4, 3, padding=1), "web", "unknown source 'web'"),
    ],
    ids=str,
)
def test_layers_that_a_source_does_not_have(layer, source, message):
    with pytest.raises(ValueError, match=message):
        published_state(layer, source)


def test_seed_block_of_a_model():
    """A YOLO-like model with the article's blocks in it."""
    model = surgeon.convert(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU()), nn.Conv2d(6, 2, 1)),
        X,
        absorb=True,
    ).model.eval()
    state = {f"model.0.0.{k}": v for k, v in published.random_state(3, 6, bn=True).items()}
    state |= {"model.1.weight": torch.randn(2, 6, 1, 1), "model.1.bias": torch.randn(2)}
    load_published(model, state, "seed")
    own = {k.removeprefix("model.0.0."): v for k, v in state.items() if k.startswith("model.0.0.")}
    wanted = nn.functional.conv2d(published.block(own, X), state["model.1.weight"], state["model.1.bias"])
    assert oracle.relative_error(model(X), wanted.double()) < 1e-6
    assert set(published_state(model, "seed")) == {k.removeprefix("model.") for k in state}


def test_the_seeds_dict_has_a_bias_that_it_never_uses():
    """A convolution before a norm has none, and the article's block has one."""
    model = surgeon.convert(
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)), X, absorb=True
    ).model
    back = published_state(model[0], "seed")
    assert not back["bias"].any()
    surgeon.SAConvBlock(3, 6, 3).load_state_dict(back)


# ------------------------------------------------------------------ layers without some parts


@pytest.mark.parametrize("parts", ["contexts", "branches"])
def test_a_layer_without_some_parts_loads_what_it_has(parts):
    """Of a whole published layer whose other parts never moved."""
    whole = oracle.shake(surgeon.SAConv2d(4, 8, 3, padding=1, bias=False))
    left_out = ("weight_diff", "switch.weight", "switch.bias") if parts == "contexts" else ("pre_", "post_")
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name.startswith(left_out):
                parameter.fill_(1.0 if name == "switch.bias" else 0.0)
    layer = oracle.shake(surgeon.SAConv2d(4, 8, 3, padding=1, parts=parts), seed=3)
    x = torch.randn(2, 4, 9, 11)
    state = {**whole.state_dict(), "bias": torch.randn(8)}
    loaded = load_published(layer, state, "mmcv")
    assert (loaded.missing, loaded.unexpected) == ((), ())
    assert torch.equal(layer(x), whole(x))
    assert oracle.relative_error(layer(x), published.saconv(state, x, padding=1).double()) < 2e-5

    name = left_out[0] if parts == "contexts" else "post_context.bias"
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    with pytest.raises(ValueError, match=rf"{name} is trained, and the layer has no such part"):
        load_published(layer, {**state, name: state[name] + 1}, "mmcv")
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("parts", ["contexts", "branches", "all"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_without_some_parts_is_written_whole(parts, bias):
    layer = oracle.shake(surgeon.SAConv2d(4, 8, 3, padding=1, bias=bias, parts=parts))
    x = torch.randn(2, 4, 9, 11)
    state = published_state(layer, "mmcv")
    assert oracle.relative_error(published.saconv(state, x, padding=1), oracle.saconv(layer, x)) < 2e-5
