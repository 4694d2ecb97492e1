"""Which layers and norms are folded, and which are left alone."""

import copy

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.folding import fold_layers as operating
from saconv_surgeon.folding.fold import MOVED
from tests import oracle
from tests.folding.models import Pair, X, assert_equal, outputs, trained
from tests.operators import operator  # noqa: F401 - a fixture


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


def test_norm_that_cannot_go_in_for_a_reason_nobody_knows_stays(monkeypatch):
    """A shift that is lost stands for it: what a norm behind a layer looks like is no proof of what it is used for."""
    model = trained(Pair())
    right = operating.Affine.of
    monkeypatch.setattr(operating.Affine, "of", lambda norm: operating.Affine(right(norm).scale, 0 * right(norm).shift))
    folding = surgeon.fold(model, X)
    assert_equal(folding, model)
    assert folding.ledger.norms == 0
    assert {row.norm_stays for row in folding.layers} == {MOVED}


class OwnForward(surgeon.ConvAWS2d):
    def forward(self, x):
        return super().forward(x).relu()


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
