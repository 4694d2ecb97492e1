"""Code that takes a converted layer for a plain convolution: outputs stay, or it raises. Oracle: the outputs before."""

import copy
import pickle
import warnings

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.nn.utils import parametrizations, prune

import saconv_surgeon as surgeon
from saconv_surgeon.errors import LostLayerWarning, NotPlainError
from tests import oracle

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = ("saconv", "aws", "absorbed")


class Block(nn.Module):
    """As in many detectors."""

    def __init__(self, c_in, c_out, bias=False):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias), nn.BatchNorm2d(c_out), nn.ReLU()

    def forward(self, x):
        x = self.conv(x)
        return self.act(self.bn(x) if hasattr(self, "bn") else x)


class Branches(nn.Module):
    """Two branches that re-parameterisation merges into one."""

    def __init__(self, channels):
        super().__init__()
        self.large, self.small, self.merged = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, channels, 1),
            None,
        )

    def forward(self, x):
        return torch.relu(self.large(x) + self.small(x) if self.merged is None else self.merged(x))

    def switch_to_deploy(self):
        merged = nn.Conv2d(self.large.in_channels, self.large.out_channels, 3, padding=1)
        merged.weight.data = self.large.weight.detach() + nn.functional.pad(self.small.weight.detach(), (1, 1, 1, 1))
        merged.bias.data = self.large.bias.detach() + self.small.bias.detach()
        self.merged = merged
        del self.large, self.small


def made(target, *, trained, bias=False):
    torch.manual_seed(1)
    model = nn.Sequential(Block(3, 8, bias), Block(8, 8, bias), Branches(8), nn.Conv2d(8, 4, 1)).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
    kind, absorb = ("saconv", True) if target == "absorbed" else (target, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = surgeon.convert(model, X, target=kind, absorb=absorb).model
    if trained:
        for layer in converted.modules():
            if isinstance(layer, surgeon.ConvAWS2d):
                oracle.shake(layer)
    return converted.eval()


def scaled(conv, norm):
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = 0 if conv.bias is None else conv.bias
    return (conv.weight * factor[:, None, None, None]).detach(), (
        (bias - norm.running_mean) * factor + norm.bias
    ).detach()


def fused(block):
    conv = nn.Conv2d(block.conv.in_channels, block.conv.out_channels, 3, padding=1)
    conv.weight.data, conv.bias.data = scaled(block.conv, block.bn)
    return conv


def by_attribute(block):
    block.conv = fused(block)
    del block.bn


def by_dictionary(block):
    block._modules["conv"] = fused(block)
    block._modules["bn"] = nn.Identity()


def by_assigned_parameters(block):
    weight, bias = scaled(block.conv, block.bn)
    block.conv.weight, block.conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    block.bn = nn.Identity()


def in_place(block):
    weight, bias = scaled(block.conv, block.bn)
    block.conv.weight.data.copy_(weight)
    if block.conv.bias is None:
        block.conv.bias = nn.Parameter(bias)
    else:
        block.conv.bias.data.copy_(bias)
    block.bn = nn.Identity()


def by_torch(block):
    block.conv = torch.nn.utils.fuse_conv_bn_eval(block.conv, block.bn)
    block.bn = nn.Identity()


FUSERS = (by_attribute, by_dictionary, by_assigned_parameters, in_place, by_torch)


def count(model):
    return sum(isinstance(layer, surgeon.ConvertedLayer) for layer in model.modules())


def fuse(model, fuser):
    for block in model.modules():
        if isinstance(block, Block) and isinstance(block.bn, nn.BatchNorm2d):
            fuser(block)
        elif isinstance(block, Branches) and fuser is by_attribute:
            block.switch_to_deploy()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("fuser", FUSERS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("trained", [False, True])
@torch.no_grad()
def test_fusers_leave_the_outputs_or_raise(target, fuser, trained, bias):
    model = made(target, trained=trained, bias=bias)
    before, layers = model(X), count(model)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            fuse(model, fuser)
    except NotPlainError as error:
        assert trained or fuser is in_place  # its values cannot be told from those of an optimizer
        assert "saconv-surgeon fold" in str(error)
        assert any(f"'{place}'" in str(error) for place in ("0.conv", "1.conv", "2.large"))
        return
    assert oracle.relative_error(model(X), before) < 1e-5
    assert count(model) == layers or any(issubclass(w.category, LostLayerWarning) for w in said)
    assert not trained or target == "absorbed"  # whose norms are not there to be fused


@pytest.mark.filterwarnings("ignore::saconv_surgeon.NotPlainWarning")
@pytest.mark.parametrize("through", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_the_guard_travels_with_copies(through):
    with pytest.raises(NotPlainError, match="read by scaled"), torch.no_grad():
        fuse(through(made("saconv", trained=True)), by_attribute)


def test_branches_are_not_merged_without_a_word():
    model = nn.Sequential(Branches(3))
    with pytest.warns(surgeon.FusingMethodWarning, match="switch_to_deploy"):
        converted = surgeon.convert(model, X).model
    oracle.shake(converted[0].large)
    with pytest.raises(NotPlainError, match=r"SAConv2d at '0\.large': .* read by switch_to_deploy"):
        converted[0].switch_to_deploy()


@pytest.mark.parametrize("target", ["saconv", "aws"])
def test_an_assigned_kernel_is_the_kernel_used(target):
    conv, other = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
    layer = surgeon.convert(conv, X, target=target).model
    layer.weight = nn.Parameter(other.weight.detach().clone())
    layer.bias = nn.Parameter(other.bias.detach().clone())
    assert torch.equal(layer(X), other(X))
    assert layer.is_at_rest()
    oracle.shake(layer)
    before = layer(X)
    layer.weight = nn.Parameter(layer.weight.detach().clone())  # the same values
    assert torch.equal(layer(X), before)
    with pytest.raises(NotPlainError, match="replaces its weight"):
        layer.weight = nn.Parameter(other.weight.detach().clone())
    with pytest.raises(NotPlainError, match="replaces its bias"):
        layer.bias = None
    assert torch.equal(layer(X), before)


def test_pruning_by_assignment():
    conv = nn.Conv2d(3, 8, 3)
    kept = nn.Parameter(conv.weight[:5].detach().clone()), nn.Parameter(conv.bias[:5].detach().clone())
    aws, saconv = (surgeon.convert(conv, X, target=target).model for target in ("aws", "saconv"))
    aws.weight, aws.bias = kept
    assert torch.equal(aws(X), nn.functional.conv2d(X, *kept))
    with pytest.raises(NotPlainError, match="prune first and convert afterwards"):
        saconv.weight = kept[0]
    assert torch.equal(saconv(X), conv(X))


def test_layers_without_a_weight_refuse_one():
    conv = nn.Conv2d(4, 8, 3, padding=1)
    split = surgeon.SPConv2d.from_conv2d(conv)
    folded = oracle.shake(surgeon.SAConv2d.from_conv2d(conv)).folded()
    for layer in (split, folded):
        for name, value in (("weight", conv.weight), ("bias", conv.bias)):
            with pytest.raises(NotPlainError, match=f"sets its {name}"):
                setattr(layer, name, nn.Parameter(value.detach().clone()))


def enters_everything(module):
    """Fuses a norm into the convolution before it among the children of every module, also of the layers themselves."""
    last = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and last is not None:
            last.weight.data.mul_(child.weight[:, None, None, None])
            setattr(module, name, nn.Identity())
        last = child if isinstance(child, nn.Conv2d) else None
        enters_everything(child)


@pytest.mark.parametrize("layer", [surgeon.SAConvBlock(3, 8, 3), surgeon.SPConv2d(8, 8, 3, padding=1)])
def test_parts_of_a_layer_are_no_convolutions_with_norms(layer):
    norm = next(name for name, part in layer.named_modules() if isinstance(part, nn.BatchNorm2d))
    with pytest.raises(NotPlainError, match=f"takes out the norm '{norm}' of a converted layer"):
        enters_everything(nn.Sequential(copy.deepcopy(layer)))
    nn.SyncBatchNorm.convert_sync_batchnorm(layer)  # another norm is no fusing


def test_folded_layers_are_no_plain_convolutions():
    model = surgeon.fold(made("saconv", trained=True), X).model
    assert model[0].conv.weight.sum().isfinite()
    with pytest.raises(NotPlainError, match=r"FoldedSAConv2d at '0\.conv'"):
        model[0].conv = nn.Conv2d(3, 8, 3, padding=1)


def test_own_exchanges_are_allowed():
    model = made("saconv", trained=True)
    layer = model[0].conv
    assert layer.weight.dtype == torch.float32  # read, but not in order to exchange it
    model(X)
    model[0].conv = nn.Conv2d(3, 8, 3, padding=1)
    assert model[1].conv.weight.shape[0] == 8
    with surgeon.unguarded():
        model[1].conv = nn.Conv2d(8, 8, 3, padding=1)
    wrapped = nn.Sequential(model[2].large)
    assert wrapped[0].weight is not None
    model[2].large = wrapped  # still there


def test_surgery_itself_is_not_stopped():
    model = made("absorbed", trained=False)
    assert all(m.weight is not None for m in model.modules() if isinstance(m, surgeon.ConvAWS2d))
    before = model(X)
    assert torch.equal(surgeon.revert(model)(X), before)
    for layer in model.modules():
        if isinstance(layer, surgeon.ConvAWS2d):
            oracle.shake(layer)
            assert layer.weight is not None
    with torch.no_grad():
        assert oracle.relative_error(surgeon.fold(model, X).model(X), model(X)) < 1e-5


def test_layers_built_by_hand_can_be_guarded():
    model = nn.Sequential(Block(3, 8))
    model[0].conv = oracle.shake(surgeon.SAConv2d(3, 8, 3, padding=1))
    surgeon.guard(model)
    with pytest.raises(NotPlainError, match="read by scaled"):
        by_attribute(model[0])


def test_torch_tools_find_the_weight():
    model = made("saconv", trained=True)
    before, layer = model(X), model[0].conv
    prune.random_unstructured(layer, "weight", 0.0)
    assert torch.equal(model(X), before)
    prune.remove(layer, "weight")
    parametrizations.weight_norm(layer)
    assert oracle.relative_error(model(X).detach(), before.detach()) < 1e-5
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert torch.equal(torch.func.functional_call(model, dict(model.named_parameters()), (X,)), model(X))
    assert layer.weight is dict(model.named_parameters())["0.conv.weight"]
    layer.weight.requires_grad_(False)
    assert not layer.weight.requires_grad


def rebuilt(module):
    """A new model, of the weights that are read; the old one is left alone."""
    made = []
    for child in module.children():
        if isinstance(child, nn.Conv2d):
            made.append(nn.Conv2d(child.in_channels, child.out_channels, 3, padding=1, bias=False))
            made[-1].weight.copy_(child.weight)
        else:
            made.append(child)
    return nn.Sequential(*made)


def normed(module):
    conv, bn = module[0], module[1]
    return torch.nn.utils.fuse_conv_bn_weights(
        conv.weight, None, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )


@pytest.mark.parametrize("read", [rebuilt, normed, lambda m: m[0].weight.numpy(), lambda m: m[0].weight * 2])
def test_reading_for_inference_warns_if_the_weight_is_not_the_kernel(read):
    for trained in (False, True):
        model = nn.Sequential(surgeon.SAConv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)).eval()
        if trained:
            oracle.shake(model[0])
        with warnings.catch_warnings(record=True) as said, torch.no_grad():
            warnings.simplefilter("always")
            read(model)
        assert [w.category for w in said] == [surgeon.NotPlainWarning] * trained


class ReadsInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = oracle.shake(surgeon.SAConv2d(3, 8, 3, padding=1))

    def forward(self, x):
        return nn.functional.conv2d(x.to(self.conv.weight.dtype), self.conv.weight, padding=1)


def test_metadata_training_and_a_models_own_forward_may_read():
    layer = oracle.shake(surgeon.SAConv2d(3, 8, 3)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            assert layer.weight.shape == layer.weight.size()
            assert (layer.weight.dtype, layer.weight.device.type) == (torch.float32, "cpu")
            ReadsInForward().eval()(X)
            with surgeon.unguarded():
                assert layer.weight.sum().isfinite()
        assert layer.weight.square().sum().requires_grad
        layer.train()
        with torch.no_grad():
            layer.weight.mul_(1.0)


def test_reading_does_not_compile_again():
    layers = [oracle.shake(surgeon.SAConv2d(3, 8, 3, padding=1)) for _ in range(4)]
    compiled, counter = [], torch._dynamo.testing.CompileCounter()
    torch._dynamo.reset()
    model = torch.compile(layers[0], backend=counter)
    for layer in layers:
        compiled.append(model(X))
        assert layer.weight.sum().isfinite()
    assert counter.frame_count == 1
    assert all(torch.equal(y, compiled[0]) for y in compiled)


def fused_into_new(model):
    """In a container that did not exist when the model was converted."""
    made = nn.Sequential(model[0].conv, model[0].bn)
    made[0] = torch.nn.utils.fuse_conv_bn_eval(made[0], made[1])


def fused_in_graph(model):
    graph = torch.fx.symbolic_trace(model[:1])
    conv, norm = graph.get_submodule("0.conv"), graph.get_submodule("0.bn")
    plain = nn.Conv2d(3, 8, 3, padding=1)
    plain.weight.data, plain.bias.data = scaled(conv, norm)
    graph.set_submodule("0.conv", plain)


def after_a_deletion(model):
    """Which makes torch give the container a new dict."""
    del model[-1]
    plain = fused(model[0])
    model[0] = nn.Sequential(plain, model[0].act)


def deleted_and_assigned(model):
    weight, _ = scaled(model[0].conv, model[0].bn)
    del model[0].conv.weight
    model[0].conv.weight = nn.Parameter(weight)


def with_a_stand_in_for_the_norm(model):
    weight, _ = scaled(model[0].conv, model[0].bn)
    model[0].conv.weight.data.copy_(weight)
    model[0].bn = nn.Sequential()


def nested(model):
    model[0].body = nn.Sequential(model[0].conv)
    weight, _ = scaled(model[0].body[0], model[0].bn)
    model[0].body[0].weight.data.copy_(weight)
    model[0].bn = nn.Identity()


def merged_beside(model):
    """Before anything is taken out: a model that is left half merged computes otherwise."""
    model[2].switch_to_deploy()


@pytest.mark.filterwarnings("ignore::saconv_surgeon.NotPlainWarning")
@pytest.mark.parametrize(
    "fuser",
    [
        fused_into_new,
        fused_in_graph,
        after_a_deletion,
        deleted_and_assigned,
        with_a_stand_in_for_the_norm,
        nested,
        merged_beside,
    ],
)
@torch.no_grad()
def test_other_ways_around(fuser):
    model = made("saconv", trained=True)
    with pytest.raises(NotPlainError):
        fuser(model)
    if fuser is merged_beside:
        assert isinstance(model[2].large, surgeon.SAConv2d)
        with pytest.raises(AttributeError):  # torch has deleted the None in its place
            model(X)


def look(layer):
    return (
        layer.weight.shape,
        hasattr(layer, "weight"),
        layer.weight is not None,
        isinstance(layer.weight, nn.Parameter),
    )


def freeze(layer):
    layer.weight.requires_grad = False


def collect(layer):
    return torch.optim.SGD([part.weight for part in (layer,)], 0.1)


@pytest.mark.parametrize("use", [look, freeze, collect])
def test_ordinary_uses_are_no_reading(use):
    model = made("saconv", trained=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        use(model[0].conv)
        model[0].conv = nn.Conv2d(3, 8, 3, padding=1)
        use(model[1].conv)
        del model[1]


def test_copies_may_take_the_place():
    model = made("saconv", trained=True)
    with torch.no_grad(), surgeon.unguarded():
        assert model[0].conv.weight.sum().isfinite()
    model[0].conv = copy.deepcopy(model[0].conv)
    holder = nn.Sequential(model)
    holder[0] = copy.deepcopy(model)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_both_parameters_may_be_taken_out_and_put_back(device):
    """As sharding does."""
    layer = oracle.shake(surgeon.SAConv2d(3, 8, 3)).to(device)
    weight, bias = dict(layer.named_parameters())["weight"], layer.bias
    del layer.weight, layer.bias
    assert not hasattr(layer, "weight")
    layer.weight, layer.bias = weight, bias
    assert dict(layer.named_parameters())["weight"] is weight
