"""Folding whole models: equal outputs, the original back where nothing moved, the argument untouched, reasons for what stays."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs import saconv
from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.folding import fold_layers as operating
from saconv_surgeon.folding.fold import MOVED
from tests import oracle
from tests.operators import operator  # noqa: F401 - a fixture
from tests.samples.test_samples_converted import sample, samples, shake_all

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Pair(nn.Module):
    """Convolution, norm, activation, twice; ``forward`` may be another."""

    def __init__(self, norm=nn.BatchNorm2d, **options):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), norm(8, **options)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), norm(8, **options)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(x)))


def trained(model, x=X, seed=0, **options):
    """A conversion of ``model`` whose layers and norms have moved, in training mode, as a training leaves it."""
    converted = surgeon.convert(model.eval(), x, **options).model
    for i, layer in enumerate(m for m in converted.modules() if isinstance(m, surgeon.ConvertedLayer)):
        oracle.shake(layer, seed=seed + i, size=0.1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in converted.modules():
            if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None:
                m.running_mean.uniform_(-0.5, 0.5, generator=generator)
                m.running_var.uniform_(0.5, 2, generator=generator)
    return converted.train()


def snapshot(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return state, [(path, type(m), m.training) for path, m in model.named_modules()]


def outputs(model, x=X):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(x)


def assert_equal(folding, model, x=X, within=1e-5):
    assert folding.equivalence.passed, folding.equivalence
    assert oracle.relative_error(folding.model(x), outputs(model, x).double()) < within


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
@pytest.mark.parametrize("fold_norms", [False, True])
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


def test_without_inputs_a_trace_shows_the_norms():
    model = trained(Pair())
    folding = surgeon.fold(model)
    assert folding.equivalence is None
    assert folding.acceptable
    assert folding.ledger.norms == 2
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-6


class Branching(Pair):
    """What is called depends on the values."""

    def forward(self, x):
        x = self.act(self.norm1(self.conv1(x)))
        x = self.conv2(x)
        return self.norm2(x) if x.mean() > -1e9 else x


class Optional(Pair):
    """A trace with a placeholder for ``mask`` takes the branch that a call without it does not."""

    def forward(self, x, mask=None):
        x = self.conv1(x)
        if mask is not None:
            return self.norm1(x * mask)
        return self.norm2(self.conv2(self.act(self.norm1(x))))


class Doubling(Pair):
    """A trace with a placeholder for ``mask`` leaves out what a call without it does."""

    def forward(self, x, mask=None):
        x = self.conv1(x)
        if mask is None:
            x = 2 * x
        return self.norm2(self.conv2(self.act(self.norm1(x))))


def test_without_inputs_and_without_a_trace_norms_stay():
    model = trained(Branching())
    folding = surgeon.fold(model)
    assert folding.ledger.norms == 0
    assert {row.norm_stays for row in folding.layers} == {operating.NO_GRAPH}
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-6
    model = trained(Optional())
    folding = surgeon.fold(model)
    assert folding.ledger.norms == 0
    mask = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        for rest in ((), (mask,)):
            assert oracle.relative_error(folding.model(X, *rest), copy.deepcopy(model).eval()(X, *rest).double()) < 1e-6
    assert surgeon.fold(model, X).ledger.norms == 2
    model = trained(Doubling())
    assert oracle.relative_error(surgeon.fold(model).model(X), outputs(model).double()) < 1e-6


def test_root_that_is_itself_a_layer():
    conv = nn.Conv2d(3, 4, 3, padding=1)
    layer = surgeon.convert(conv, X).model
    assert type(surgeon.fold(layer, X).model) is nn.Conv2d
    moved = oracle.shake(copy.deepcopy(layer))
    for folding in (surgeon.fold(moved, X), surgeon.fold(moved)):
        assert isinstance(folding.model, FoldedSAConv2d)
        assert oracle.relative_error(folding.model(X), oracle.saconv(moved, X)) < 1e-6
    assert folding.layers[0].path == ""


# ------------------------------------------------------------------ norms that stay


class Shared(Pair):
    def forward(self, x):
        return self.norm1(self.conv2(self.act(self.norm1(self.conv1(x)))))


class Residual(Pair):
    """Something else reads the convolution's output."""

    def forward(self, x):
        y = self.conv1(x)
        return self.norm2(self.conv2(self.norm1(y))) + y


class Twice(Pair):
    """The norm is called once more, for something else."""

    def forward(self, x):
        return self.norm1(self.conv2(self.norm1(self.conv1(x))) * 2)


class Reading(Pair):
    """Looks at its norm's attributes."""

    def forward(self, x):
        return super().forward(x) * self.norm1.eps


class ReadingTensors(Pair):
    """Uses the tensors of its norm by itself."""

    def forward(self, x):
        return super().forward(x) * self.norm1.weight[:, None, None]


class Aliased(Pair):
    """The norm has a second name."""

    def __init__(self):
        super().__init__()
        self.again = self.norm1


@pytest.mark.parametrize(
    ("make", "stays"),
    [
        (Shared, {"conv1": "called 2 times", "conv2": "called 2 times"}),
        (Residual, {"conv1": None}),
        (Twice, {"conv1": "called 2 times"}),
        (Reading, {"conv1": "cannot be run without its norms"}),
        (ReadingTensors, {"conv1": "cannot be run without its norms"}),
        (Aliased, {"conv1": "has other names"}),
        (lambda: Pair(track_running_stats=False), {"conv1": "not a constant scale"}),
        (lambda: Pair(lambda n: nn.GroupNorm(2, n)), {"conv1": "not a constant scale"}),
    ],
    ids=[
        "shared",
        "residual",
        "twice",
        "attribute read",
        "tensors read",
        "two names",
        "batch statistics",
        "group norm",
    ],
)
def test_norms_that_cannot_go_in_stay(make, stays):
    model = trained(make())
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    rows = {row.path: row for row in folding.layers}
    for path, why in stays.items():
        assert rows[path].norm is None
        assert (why or "") in (rows[path].norm_stays or "")
    assert oracle.relative_error(surgeon.fold(model).model(X), outputs(model).double()) < 1e-5


def test_hooks_and_patches_leave_a_layer_alone():
    def hooked(model):
        model.conv1.register_forward_hook(lambda module, args, output: output * 2)

    def patched(model):
        forward = model.conv1.forward
        model.conv1.forward = lambda x: forward(x) + 1

    def hooked_norm(model):
        model.norm1.register_forward_pre_hook(lambda module, args: (args[0] + 1,))

    def parametrised(model):
        nn.utils.parametrizations.weight_norm(model.conv1)

    for change, why in (
        (hooked, "hooks"),
        (patched, "forward"),
        (parametrised, "parametrised"),
        (hooked_norm, "hooks"),
    ):
        model = trained(Pair())
        change(model)
        folding = surgeon.fold(model, X)
        row = folding.layers[0]
        assert why in (row.reason or row.norm_stays), change
        assert row.changed == (change is hooked_norm)
        assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-5, change


class Listed(Pair):
    """Holds its convolutions in a plain list as well, and calls those."""

    def __init__(self):
        super().__init__()
        self.plain = [self.conv1, self.conv2]

    def forward(self, x):
        return self.norm2(self.plain[1](self.norm1(self.plain[0](x))))


def test_layers_called_from_outside_the_tree_are_left_alone():
    model = Listed()
    model.conv1, model.conv2 = (oracle.shake(surgeon.SAConv2d.from_conv2d(c), size=0.1) for c in model.plain)
    model.plain = [model.conv1, model.conv2]
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert all("plain list" in row.reason for row in folding.layers)


def test_layer_called_twice_and_layer_under_two_names():
    class Again(Pair):
        def __init__(self):
            super().__init__()
            self.other = self.conv2

        def forward(self, x):
            x = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
            return self.norm2(self.other(x))

    model = trained(Again())
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert folding.model.other is folding.model.conv2
    assert folding.ledger.norms == 2


def test_kernel_read_elsewhere_keeps_its_norm():
    class Reader(Pair):
        def forward(self, x):
            x = self.norm2(self.conv2(self.norm1(self.conv1(x))))
            return nn.functional.conv2d(x, self.conv2.weight)

    model = Reader().eval()
    with torch.no_grad():
        model.norm2.weight.fill_(3)
    folding = surgeon.fold(surgeon.convert(model, X, include=["conv1"]).model, X, fold_norms=True)
    assert_equal(folding, model)
    assert [row.path for row in folding.layers] == ["conv1"]


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
    right = saconv.kernel_through
    monkeypatch.setattr(saconv, "kernel_through", lambda *arguments: 1.001 * right(*arguments))
    folding = surgeon.fold(model, X)
    assert not folding.equivalence.passed
    assert folding.equivalence.first_moved == "conv1"
    assert not folding.acceptable


def test_norm_that_cannot_go_in_for_a_reason_nobody_knows_stays(monkeypatch):
    """A shift that is lost stands for it: what a norm behind a layer looks like is no proof of what it is used for."""
    model = trained(Pair())
    right = operating.Affine.of
    monkeypatch.setattr(operating.Affine, "of", lambda norm: operating.Affine(right(norm).scale, 0 * right(norm).shift))
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert folding.ledger.norms == 0
    assert {row.norm_stays for row in folding.layers} == {MOVED}


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
    right = saconv.kernel_through
    monkeypatch.setattr(saconv, "kernel_through", lambda *arguments: (1 + 1e-5) * right(*arguments))
    assert not surgeon.fold(model, X).equivalence.passed


def test_float64_excuses_no_half_precision_and_no_large_movement(monkeypatch):
    right = saconv.kernel_through

    def in_low_precision(layer, *rest):
        kernel = right(layer, *rest)
        return kernel if kernel.dtype == torch.float64 else kernel * 1.1

    monkeypatch.setattr(saconv, "kernel_through", in_low_precision)
    assert not surgeon.fold(trained(Pair()), X).equivalence.passed
    assert not surgeon.fold(trained(Pair()).half(), X.half()).equivalence.passed


# ------------------------------------------------------------------ what others do to their models


class Reader(Pair):
    """Uses the kernel of its layer by itself."""

    def forward(self, x):
        return super().forward(x) + nn.functional.conv2d(x, self.conv1.weight, padding=1)


class OwnForward(surgeon.ConvAWS2d):
    def forward(self, x):
        return super().forward(x).relu()


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


@pytest.mark.parametrize("inputs", [None, X], ids=["trace", "run"])
def test_layers_of_other_classes_and_in_other_layers_are_left_alone(inputs):
    own = oracle.shake(OwnForward(3, 4, 3, padding=1))
    outer = surgeon.SPConv2d(4, 4, 3, padding=1)
    outer.pwc = oracle.shake(surgeon.SAConv2d(2, 4, 1, bias=False))
    model = nn.Sequential(own, outer).eval()
    folding = surgeon.fold(model, inputs)
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-6
    assert [row.reason for row in folding.layers] == [
        "OwnForward has a forward of its own",
        "it holds other converted layers",
    ]


@pytest.mark.parametrize("inputs", [None, X], ids=["trace", "run"])
@pytest.mark.parametrize("moved", [False, True])
def test_absorbing_models_inside_others(inputs, moved):
    """Paths that surgery recorded are those of the model that was converted."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
    ).eval()
    converted = surgeon.convert(net, X, absorb=True).model
    if moved:
        for layer in (converted[0], converted[3]):
            oracle.shake(layer, size=0.1)
    alone = converted[0]
    for model in (nn.Sequential(converted), nn.Sequential(nn.Conv2d(3, 3, 1), *converted), alone):
        folding = surgeon.fold(model.eval(), inputs)
        assert folding.acceptable
        assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-5
        assert any(row.changed for row in folding.layers)


@pytest.mark.parametrize("inputs", [None, X], ids=["trace", "run"])
def test_absorbing_models_that_were_changed_afterwards(inputs):
    """Where the norm was, there is something else now."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()).eval()
    model = surgeon.convert(net, X, absorb=True).model
    oracle.shake(model[0], size=0.1)
    model[1] = nn.Conv2d(8, 8, 1)
    folding = surgeon.fold(model, inputs)
    assert isinstance(folding.model[1], nn.Conv2d)
    assert folding.layers[0].norm == "0.bn (BatchNorm2d)"
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-5


def test_block_keeps_what_others_put_on_it():
    block = oracle.shake(surgeon.SAConvBlock(3, 8, 3))
    block.f, block.i = -1, 4
    for inputs in (X, None):
        folding = surgeon.fold(nn.Sequential(block).eval(), inputs)
        assert (folding.model[0].f, folding.model[0].i) == (-1, 4)
        assert folding.layers[0].norm == "0.bn (BatchNorm2d)"


def test_block_in_a_model_that_cannot_be_traced():
    """Its own norm goes in whatever a trace shows."""
    model = Branching()
    model.act = oracle.shake(surgeon.SAConvBlock(8, 8, 3))
    folding = surgeon.fold(model.eval())
    assert folding.layers[0].norm == "act.bn (BatchNorm2d)"
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-5


def test_tolerance_is_for_each_layer_by_itself():
    """Layers that share a switch, and layers that cannot be folded."""
    model = trained(Pair())
    with torch.no_grad():
        model.conv1.weight_diff.zero_()
        model.conv1.switch = model.conv2.switch = nn.Conv2d(8, 1, 1)
        model.conv1 = oracle.shake(surgeon.SAConv2d(8, 8, 3, padding=1))
        model.conv1.switch = model.conv2.switch
        for layer in (model.conv1, model.conv2):
            for part in (layer.pre_context, layer.post_context):
                hardly(model, part, 0)
        model.conv1.weight_diff.zero_()
        model.conv2.weight_diff.mul_(1000)
        model.conv1.switch.weight.mul_(0.01)
        model.conv1.switch.bias.fill_(1.001)
    x = torch.randn(2, 8, 16, 16)
    folding = surgeon.fold(model, x, tolerance=0.01)
    assert folding.layers[0].removed
    assert not folding.layers[1].removed
    assert folding.layers[1].parts == ("narrow", "wide", "switch")
    model.conv1.register_forward_hook(lambda module, args, output: None)
    assert not surgeon.fold(model, x, tolerance=0.01).layers[0].removed


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


# ------------------------------------------------------------------ taking parts out


def hardly(model, part, size):
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.mul_(size)
    return model


def test_tolerance_takes_out_what_hardly_contributes():
    model = trained(Pair())
    for layer in (model.conv1, model.conv2):
        hardly(model, layer.post_context, 1e-5)
        hardly(model, layer.pre_context, 1e-5)
    exact = surgeon.fold(model, X)
    assert exact.layers[0].parts == ("narrow", "wide", "switch", "pre-context", "post-context")
    folding = surgeon.fold(model, X, tolerance=1e-3)
    assert folding.layers[0].parts == ("narrow", "wide", "switch")
    assert folding.layers[0].removed == ("post-context", "pre-context")
    assert 0 < folding.layers[0].cost < 1e-3
    assert folding.equivalence.passed  # of the model without them
    assert 0 < folding.cost.max_rel < 1e-3
    assert oracle.relative_error(folding.model(X), outputs(model).double()) < 1e-3
    nothing = surgeon.fold(model, X, tolerance=0.0)
    assert nothing.cost.bit_equal
    assert nothing.layers[0].parts == exact.layers[0].parts


def test_tolerance_makes_switches_constant():
    model = trained(Pair())
    with torch.no_grad():
        for layer, value in ((model.conv1, 1.0), (model.conv2, 0.25)):
            layer.switch.weight.mul_(1e-6)
            layer.switch.bias.fill_(value)
            for part in (layer.pre_context, layer.post_context):
                hardly(model, part, 0)
    folding = surgeon.fold(model, X, tolerance=1e-3)
    assert [row.after for row in folding.layers] == ["Conv2d", "FoldedSAConv2d"]
    assert [row.removed for row in folding.layers] == [("wide branch",), ("switch",)]
    assert folding.layers[1].parts == ("narrow", "wide")


def test_tolerance_counts_everything_that_was_taken_out_together():
    """Each part alone would be within the tolerance; both are not."""
    model = trained(Pair())
    layer = model.conv1
    with torch.no_grad():
        layer.switch.weight.zero_()
        for part in (layer.pre_context, layer.post_context):
            part.weight.zero_()
            part.bias.zero_()
        kernel = layer.standardised_weight()
        plain = nn.functional.conv2d(X, kernel, layer.bias, padding=1)
        layer.switch.bias.fill_(1.0)
        layer.post_context.bias.fill_(0.8e-2 * float(plain.square().mean().sqrt()))
        y = model.conv1.blended(X)
        alone = float((y - plain).norm() / y.norm())
        layer.switch.bias.fill_(1.01)
    folding = surgeon.fold(model, X, tolerance=1.2 * alone)
    assert folding.layers[0].cost <= 1.2 * alone
    assert len(folding.layers[0].removed) == 1
