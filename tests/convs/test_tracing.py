"""Converted models for torch.fx, torch.jit and tools built on them. Oracle: what the model gives untraced."""

import copy
import warnings

import pytest
import torch
from torch import fx, nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs.deformable import missing_operator
from saconv_surgeon.errors import ModelError
from tests import oracle

X = torch.rand(2, 8, 9, 9, generator=torch.Generator().manual_seed(0))
KINDS = ["saconv", "aws", "spconv", "absorbed", "folded", "saconv-deform"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.stem, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.body(x)).mean((2, 3))


def count(model):
    return sum(isinstance(module, surgeon.ConvertedLayer) for module in model.modules())


def made(kind, *, trained=True):
    if kind == "saconv-deform" and missing_operator() is not None:
        pytest.skip(missing_operator())
    torch.manual_seed(0)
    target = kind if kind not in ("absorbed", "folded") else "saconv"
    model = surgeon.convert(Net().eval(), X, target=target, absorb=kind == "absorbed", trials=1).model
    for layer in model.modules():
        if isinstance(layer, surgeon.ConvAWS2d) and trained:
            oracle.shake(layer)
    return surgeon.fold(model, X).model if kind == "folded" else model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_one_node(kind):
    model = made(kind)
    traced = fx.symbolic_trace(model)
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    assert {"body.0", "head"} <= called
    assert isinstance(traced.get_submodule("body.0"), surgeon.ConvertedLayer)
    with torch.no_grad():
        assert torch.equal(traced(X), model(X))
        assert torch.equal(fx.symbolic_trace(copy.deepcopy(traced))(X[:1]), model(X[:1]))


def test_gradients_flow_through_a_traced_model():
    model = made("saconv").train()
    traced = fx.symbolic_trace(model)
    traced(X).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_layer_alone_is_refused():
    with pytest.raises(ModelError, match=r"SAConv2d is one operation for torch\.fx; trace the model that holds it"):
        fx.symbolic_trace(surgeon.SAConv2d(3, 3, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_torchs_fuser_leaves_layers_alone(kind):
    from torch.fx.experimental.optimization import fuse

    model = made(kind)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        assert oracle.relative_error(fuse(model)(X), model(X)) < 1e-5


@pytest.mark.parametrize("kind", ["saconv", "aws", "absorbed"])
def test_fx_quantisation_leaves_layers_in_float(kind):
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    model = made(kind)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        prepared = quantize_fx.prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(), (X,))
        prepared(X)
        quantised = quantize_fx.convert_fx(prepared)
        assert count(quantised) == count(model) > 1
        assert oracle.relative_error(quantised(X), model(X)) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_scripting_is_refused_in_a_sentence_and_tracing_works(kind):
    model = made(kind)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with pytest.raises(ModelError, match=r"cannot be compiled by torch.jit.script; use torch.jit.trace") as raised:
            torch.jit.script(model)
        assert "\n" not in str(raised.value)
        assert oracle.relative_error(torch.jit.trace(model, X)(X), model(X)) < 1e-6


@pytest.mark.parametrize("kind", ["saconv", "aws", "absorbed", "folded"])
def test_tracing_with_gradients_on(kind):
    """torch traces a second time without gradients, and compares the graphs."""
    model = made(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, X)
    assert oracle.relative_error(traced(X).detach(), model(X).detach()) < 1e-6


@pytest.mark.parametrize("kind", ["saconv", "aws", "absorbed", "folded"])
def test_many_gradients_at_once(kind):
    model = made(kind)
    found = torch.autograd.functional.jacobian(model, X, vectorize=True)
    wanted = torch.autograd.functional.jacobian(model, X)
    assert oracle.relative_error(found, wanted) < 1e-5


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("kind", ["saconv", "aws"])
def test_stacked_models(kind, gradients):
    models = [made(kind) for _ in range(2)]
    parameters, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    with torch.set_grad_enabled(gradients):
        found = torch.vmap(lambda p, b: torch.func.functional_call(base, (p, b), (X,)))(parameters, buffers)
    assert oracle.relative_error(found[1].detach(), models[1](X).detach()) < 1e-5


@pytest.mark.parametrize("mode", ["real", "fake"])
@pytest.mark.parametrize("kind", ["saconv", "aws", "folded"])
def test_make_fx(kind, mode):
    from torch.fx.experimental.proxy_tensor import make_fx

    model = made(kind)
    graph = make_fx(model, tracing_mode=mode, _allow_non_fake_inputs=True)(X)
    with torch.no_grad():
        assert oracle.relative_error(graph(X), model(X)) < 1e-6


@pytest.mark.parametrize("kind", ["saconv", "aws", "spconv"])
def test_feature_extractors(kind):
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    model = made(kind)
    taken = extraction.create_feature_extractor(model, {"body.0": "a", "head": "b"})
    with torch.no_grad():
        assert torch.equal(taken(X)["a"], model.body[0](model.stem(X)))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("kind", ["saconv", "aws", "absorbed", "folded", "spconv"])
def test_torch_pruning_raises_or_leaves_what_it_does_not_prune(kind, trained):
    pruning = pytest.importorskip("torch_pruning")
    model = made(kind, trained=trained)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = pruning.pruner.MagnitudePruner(
            model, X, pruning.importance.MagnitudeImportance(p=2), pruning_ratio=0.5, ignored_layers=[model.head]
        )
        try:
            pruner.step()
            y = model(X)
        except (ModelError, RuntimeError) as error:
            assert kind == "spconv" or (trained and "put that step before the conversion" in str(error))
            return
    assert y.shape == (2, 4)
    after = model.state_dict()
    if not count(model):
        return  # folded at rest: plain convolutions
    if kind != "aws":
        assert all(torch.equal(after[name], value) for name, value in before.items())
        return
    assert after["body.0.weight"].shape == (4, 4, 3, 3)
    plain = nn.Conv2d(4, 4, 3, padding=1)
    plain.weight.data, plain.bias.data = after["body.0.weight"], after["body.0.bias"]
    assert torch.equal(model.body[0](X[:, :4]), plain(X[:, :4]))
