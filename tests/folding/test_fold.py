"""Folding whole models: equal outputs, the original back where nothing moved, the argument untouched, reasons for what stays."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs import foldable
from saconv_surgeon.errors import ModelError, UsageError
from tests import oracle
from tests.folding.models import Pair, Reader, X, assert_equal, trained
from tests.operators import operator  # noqa: F401 - a fixture
from tests.samples.test_samples_converted import sample, samples, shake_all


def snapshot(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return state, [(path, type(m), m.training) for path, m in model.named_modules()]


def test_trained_model_is_folded_whole():
    model = trained(Pair())
    before = snapshot(model)
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert [(row.path, row.after, row.norm) for row in folding.layers] == [
        ("conv1", "FoldedSAConv2d", "norm1 (BatchNorm2d)"),
        ("conv2", "FoldedSAConv2d", "norm2 (BatchNorm2d)"),
    ]
    assert isinstance(folding.model.norm1, nn.Identity)
    assert type(folding.model) is Pair
    assert not any(m.training for m in folding.model.modules())
    after = snapshot(model)
    assert before[1] == after[1]
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    shared = {p.data_ptr() for p in folding.model.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert not shared


@pytest.mark.parametrize("target", ["saconv", "aws"])
@pytest.mark.parametrize("absorb", [False, True])
def test_fresh_conversion_folds_back_to_the_original(target, absorb):
    if absorb and target == "aws":
        pytest.skip("aws absorbs nothing")
    model = Pair().eval()
    folding = surgeon.fold(surgeon.convert(model, X, target=target, absorb=absorb).model, X)
    assert folding.equivalence.bit_equal
    assert list(map(repr, folding.model.modules())) == list(map(repr, model.modules()))
    assert list(folding.model.state_dict()) == list(model.state_dict())
    assert all(torch.equal(folding.model.state_dict()[name], value) for name, value in model.state_dict().items())
    assert folding.ledger.at_rest == folding.ledger.plain == 2
    assert folding.ledger.norms == 0


def test_norms_are_folded_on_request_also_behind_plain_convolutions():
    model = surgeon.convert(Pair().eval(), X, include=["conv1"]).model
    kept = surgeon.fold(model, X)
    assert kept.ledger.norms == 0
    assert "keeps its norm" in kept.layers[0].norm_stays
    folding = surgeon.fold(model, X, fold_norms=True)
    assert_equal(folding, model)
    assert (folding.ledger.norms, folding.ledger.convolutions) == (2, 1)
    assert type(folding.model.conv2) is nn.Conv2d
    assert isinstance(folding.model.norm2, nn.Identity)


def test_absorbed_parts_go_back_and_the_norm_goes_in():
    model = trained(Pair(), absorb=True)
    assert isinstance(model.norm1, nn.Identity)
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert [row.norm for row in folding.layers] == ["norm1 (BatchNorm2d)", "norm2 (BatchNorm2d)"]
    assert isinstance(folding.model.act, nn.ReLU)
    assert folding.equivalence.first_moved is None


@samples
@pytest.mark.parametrize("fold_norms", [pytest.param(False, marks=pytest.mark.slow), True])
def test_sample_models(name, fold_norms):
    model, inputs = sample(name)
    converted = surgeon.convert(model, inputs, allow_depthwise=True).model
    layers = shake_all(converted)
    folding = surgeon.fold(converted, inputs, fold_norms=fold_norms)
    assert folding.equivalence.passed, folding.equivalence
    assert folding.equivalence.max_rel < 1e-5
    assert {row.path for row in folding.layers} >= set(layers)
    assert folding.ledger.kept == 0
    n = folding.ledger
    assert n.layers == n.plain + n.switchable + n.others + n.kept


@pytest.mark.parametrize("target", ["aws", "spconv"])
def test_other_targets(target):
    model = trained(Pair(), target=target, include=["conv2"])
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    (row,) = folding.layers
    assert row.after == {"aws": "Conv2d", "spconv": "SPConv2d"}[target]
    assert row.norm_stays == (None if target == "aws" else "a SPConv2d cannot take it in")


def test_deformable_target(operator):  # noqa: F811
    model = trained(Pair(), target="saconv-deform")
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert {row.after for row in folding.layers} == {"FoldedDeformableSAConv2d"}
    assert folding.ledger.norms == 2


def test_folding_twice_changes_nothing_more():
    once = surgeon.fold(trained(Pair()), X)
    again = surgeon.fold(once.model, X)
    assert again.changed == 0
    assert again.equivalence.bit_equal
    assert {row.reason for row in again.layers} == {"it is folded already"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    model, x = trained(Pair()).to(dtype), X.to(dtype)
    folding = surgeon.fold(model, x)
    assert folding.equivalence.passed, folding.equivalence
    assert folding.equivalence.tolerance == max(1e-5, 10 * torch.finfo(dtype).eps)
    if dtype == torch.float64:
        assert folding.equivalence.max_rel < 1e-13


def test_models_that_differ_from_run_to_run_and_wrapped_ones():
    class Noisy(Pair):
        def forward(self, x):
            noise = torch.empty(x.shape).uniform_(generator=torch.Generator().manual_seed(torch.seed() % 2**31))
            return super().forward(x + 1e-3 * noise)

    folding = surgeon.fold(trained(Noisy()), X)
    assert folding.equivalence.passed, folding.equivalence
    assert not folding.equivalence.deterministic
    wrapped = nn.DataParallel(trained(Pair()))
    assert type(surgeon.fold(wrapped, X).model) is Pair


def test_wrong_folding_is_seen(monkeypatch):
    """A kernel that is a thousandth too large: the proof says so, and which layer it was."""
    model = trained(Pair())
    right = foldable.kernel_through
    monkeypatch.setattr(foldable, "kernel_through", lambda *arguments: 1.001 * right(*arguments))
    folding = surgeon.fold(model, X)
    assert not folding.equivalence.passed
    assert folding.equivalence.first_moved == "conv1"
    assert not folding.acceptable


class Magnifying(Pair):
    """Small differences of large numbers."""

    def forward(self, x):
        y = super().forward(x)
        return (1 + 1e-4 * y) - 1


def test_rounding_that_a_model_magnifies_is_told_from_a_mistake(monkeypatch):
    model = trained(Magnifying())
    folding = surgeon.fold(model, X)
    assert folding.equivalence.max_rel > 1e-5
    assert folding.equivalence.passed
    assert "in float64 nothing moves" in folding.equivalence.note
    assert folding.ledger.norms == 2
    assert surgeon.fold(model, X, allowed=1e-5).ledger.norms == 0  # a stricter proof than rounding lets through
    right = foldable.kernel_through
    monkeypatch.setattr(foldable, "kernel_through", lambda *arguments: (1 + 1e-5) * right(*arguments))
    assert not surgeon.fold(model, X).equivalence.passed


def test_float64_excuses_no_half_precision_and_no_large_movement(monkeypatch):
    right = foldable.kernel_through

    def in_low_precision(layer, *rest):
        kernel = right(layer, *rest)
        return kernel if kernel.dtype == torch.float64 else kernel * 1.1

    monkeypatch.setattr(foldable, "kernel_through", in_low_precision)
    assert not surgeon.fold(trained(Pair()), X).equivalence.passed
    assert not surgeon.fold(trained(Pair()).half(), X.half()).equivalence.passed


class KeptInTraining(Pair):
    def train(self, mode=True):
        super().train(mode)
        self.norm1.train()
        return self


class Between(Pair):
    """An identity that is none any more."""

    def __init__(self):
        super().__init__()
        self.between = nn.Identity()
        self.between.register_forward_hook(lambda module, args, output: output + 1)

    def forward(self, x):
        return self.norm2(self.conv2(self.norm1(self.between(self.conv1(x)))))


class Hidden(Pair):
    """Its norm is also held, and called, through a plain list."""

    def __init__(self):
        super().__init__()
        self.steps = [self.norm1]

    def forward(self, x):
        return self.norm2(self.conv2(self.steps[0](self.conv1(x))))


class SaysNothing(Pair):
    def train(self, mode=True):
        super().train(mode)


@pytest.mark.parametrize("make", [Reader, KeptInTraining, Between, Hidden, SaysNothing])
@pytest.mark.parametrize("inputs", [None, X], ids=["trace", "run"])
def test_awkward_models_stay_equal(make, inputs):
    model = trained(Pair())
    awkward = make()
    for name, part in model.named_children():
        setattr(awkward, name, part)
    awkward.steps = [awkward.norm1]
    awkward.eval()
    with torch.no_grad():
        wanted = copy.deepcopy(awkward)(X)
    folding = surgeon.fold(awkward, inputs)
    assert folding.acceptable
    assert oracle.relative_error(folding.model(X), wanted.double()) < 1e-5


def test_no_trials_prove_nothing():
    with pytest.raises(UsageError, match="0 trials prove nothing"):
        surgeon.fold(trained(Pair()), X, trials=0)


def test_messages():
    model = trained(Pair())
    with pytest.raises(UsageError, match="no example_inputs"):
        surgeon.fold(model, tolerance=0.1)
    with pytest.raises(UsageError, match=r"given was 1\.5"):
        surgeon.fold(model, X, tolerance=1.5)
    with pytest.raises(ModelError, match="meta device"):
        surgeon.fold(copy.deepcopy(model).to("meta"), X)


def test_price_and_record():
    model = trained(Pair())
    folding = surgeon.price(surgeon.fold(model, X), model, X, timing=None)
    record = folding.to_dict()
    assert record["schema"] == "saconv-surgeon/folding/1"
    assert (record["layers"], record["switchable"], record["norms"]) == (2, 2, 2)
    assert record["folded"][0]["norm"] == "norm1 (BatchNorm2d)"
    # by hand: two kernels of each layer, biases only where the convolution had one; its switch, its contexts, the norm's scale
    kernels = 2 * (3 * 8 * 9) + 2 * (8 * 8 * 9 + 8)
    switches, contexts = (3 + 1) + (8 + 1), (3 * 3 + 3) + (8 * 8 + 8) + 2 * (8 * 8 + 8)
    scales = 2 * 8
    assert record["after"]["parameters"] == kernels + switches + contexts + scales
    assert folding.after.model == "Pair, folded"
