"""Layers without a wide branch and switch, or without contexts: what they have, what they compute, what they cost."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon import DeformableSAConv2d, SAConv2d, SAConvBlock
from saconv_surgeon.convs.targets.recipe import Recipe
from saconv_surgeon.errors import UsageError
from tests import oracle, published
from tests.convs.test_saconv import GEOMETRIES
from tests.oracle import relative_error

X = torch.randn(2, 4, 9, 11, generator=torch.Generator().manual_seed(2))
CONTEXTS = {f"{name}.{kind}" for name in ("pre_context", "post_context") for kind in ("weight", "bias")}
BRANCHES = {"weight_diff", "switch.weight", "switch.bias"}
SHARED = {"weight", "bias", "weight_gamma", "weight_beta"}
KEYS = {"contexts": SHARED | CONTEXTS, "branches": SHARED | BRANCHES, "all": SHARED | CONTEXTS | BRANCHES}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
each = pytest.mark.parametrize("parts", ["contexts", "branches"])


def layer_of(parts, **geometry):
    conv = nn.Conv2d(4, 8, **(geometry or GEOMETRIES["same size"]))
    return conv, SAConv2d.from_conv2d(conv, parts=parts)


@pytest.mark.parametrize("parts", KEYS)
def test_keys_of_what_there_is(parts):
    layer = layer_of(parts)[1]
    assert set(layer.state_dict()) == KEYS[parts]
    assert set(dict(layer.named_parameters())) == KEYS[parts] - {"weight_gamma", "weight_beta"}
    assert layer.options() == ({} if parts == "all" else {"parts": parts})
    assert (f"parts='{parts}'" in repr(layer)) == (parts != "all")


@each
@geometries
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_new_layer_is_equal_to_the_bit(parts, geometry, dtype, layout):
    conv = nn.Conv2d(4, 8, **geometry).to(dtype=dtype, memory_format=layout)
    x = X.to(dtype=dtype, memory_format=layout)
    layer = SAConv2d.from_conv2d(conv, parts=parts)
    assert layer.is_at_rest()
    assert torch.equal(layer(x), conv(x))
    assert all(torch.equal(layer.to_conv2d().state_dict()[k], v) for k, v in conv.state_dict().items())


@each
@geometries
def test_trained_layer_follows_the_equations(parts, geometry):
    layer = oracle.shake(layer_of(parts, **geometry)[1])
    assert not layer.is_at_rest()
    assert relative_error(layer(X), oracle.saconv(layer, X)) < 2e-5
    exact = layer.double()
    assert relative_error(exact(X.double()), oracle.saconv(exact, X)) < 1e-12


@each
def test_each_parameter_matters_and_is_seen_by_is_at_rest(parts):
    layer = layer_of(parts)[1]
    shaken = oracle.shake(copy.deepcopy(layer))
    before = shaken(X)
    for name in KEYS[parts] - {"weight_gamma", "weight_beta"}:
        other, resting = copy.deepcopy(shaken), copy.deepcopy(layer)
        with torch.no_grad():
            for each in (other, resting):
                each.get_parameter(name).add_(torch.rand_like(each.get_parameter(name)))
        assert not torch.allclose(other(X), before), name
        assert resting.is_at_rest() == (name == "bias"), name


def convolutions_in(layer):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler, torch.no_grad():
        layer(X)
    return sum(event.count for event in profiler.key_averages() if event.key == "aten::conv2d")


def test_contexts_run_one_convolution():
    assert convolutions_in(layer_of("contexts")[1]) == 1
    assert convolutions_in(layer_of("branches")[1]) == 2


@each
def test_gradients_in_float64(parts):
    layer = oracle.shake(layer_of(parts)[1]).double()
    x = X[:1, :, :6, :7].double().requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values)), (x,))

    values = [p.detach().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *values), nondet_tol=1e-12)


@each
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_one_bad_pixel_stays_where_the_convolution_has_it(parts, bad):
    conv, layer = layer_of(parts)
    x = X.clone()
    x[0, 1, 4, 5] = bad
    wanted, found = conv(x), layer(x)
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert torch.equal(found[wanted.isfinite()], wanted[wanted.isfinite()])


@each
def test_copies_pickles_and_saved_modules_keep_their_parts(parts):
    layer = oracle.shake(layer_of(parts)[1])
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(buffer, weights_only=False)):
        assert twin.parts == parts
        assert torch.equal(twin(X), layer(X))


def test_layers_pickled_before_there_was_a_choice_have_all_parts():
    layer = oracle.shake(layer_of("all")[1])
    del vars(layer)["parts"]
    twin = pickle.loads(pickle.dumps(layer))
    assert twin.parts == "all"
    assert torch.equal(twin(X), layer(X))


@each
def test_reset_draws_a_new_kernel_and_rests(parts):
    layer = oracle.shake(layer_of(parts)[1])
    layer.reset_parameters()
    assert layer.is_at_rest()
    assert set(layer.state_dict()) == KEYS[parts]


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="there is: all, contexts, branches"):
        SAConv2d(4, 8, 3, parts="context")
    with pytest.raises(ValueError, match="DeformableSAConv2d has all parts, not 'contexts' alone"):
        DeformableSAConv2d(4, 8, 3, padding=1, parts="contexts")
    with pytest.raises(UsageError, match=r"parts 'some' of the target 'saconv': .*needed: contexts"):
        surgeon.convert(nn.Conv2d(4, 8, 3), X, options={"parts": "some"})
    with pytest.raises(UsageError, match="'saconv-deform' has no option 'parts'"):
        surgeon.convert(nn.Conv2d(4, 8, 3), X, target="saconv-deform", options={"parts": "contexts"})


def test_plain_attribute_of_that_name_is_left_to_other_code():
    layer = layer_of("contexts")[1]
    assert "parts" not in vars(layer.to_conv2d())
    assert "switch" not in vars(layer.to_conv2d())


@each
def test_block_of_published_models(parts):
    block = SAConvBlock(4, 8, 3, parts=parts).eval()
    assert {key for key in block.state_dict() if not key.startswith("bn.")} == KEYS[parts]


def only_site(conv, parts, **rest):
    (site,) = surgeon.inspect(conv, torch.randn(2, conv.in_channels, 9, 11), options={"parts": parts}, **rest)
    return site


def test_costs_by_hand():
    """8 → 6 channels, 3×3, 9×11, batch 2."""
    conv = nn.Conv2d(8, 6, 3, padding=1)
    contexts, branches = only_site(conv, "contexts"), only_site(conv, "branches")
    assert contexts.added_parameters == 8 * 8 + 8 + 6 * 6 + 6
    assert contexts.added_macs == 2 * (64 + 36)
    assert branches.added_parameters == 9 * 8 * 6 + 8 + 1
    assert branches.added_macs == 2 * 99 * (9 * 8 * 6 + 8)


@each
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(4, 4, (3, 5), padding=(1, 2), groups=2),
    ],
    ids=str,
)
def test_costs_are_what_the_counters_find(parts, conv):
    conversion = surgeon.convert(conv, X, options={"parts": parts})
    (site,) = conversion.plan.sites
    before, after = (surgeon.profile(model, X, timing=None) for model in (conv, conversion.model))
    assert conversion.plan.options == {"parts": parts}
    assert after.parameters - before.parameters == site.added_parameters
    assert after.macs - before.macs == site.added_macs
    assert after.cross_check.agrees
    assert not after.uncounted_ops


@pytest.mark.parametrize(
    ("conv", "parts", "code"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), "contexts", "depthwise"),
        (nn.Conv2d(8, 8, 3, groups=8), "branches", None),
        (nn.Conv2d(8, 8, 3, groups=8), "all", "depthwise"),
        (nn.Conv2d(8, 8, 1), "contexts", "kernel-1x1"),
        (nn.Conv2d(8, 8, 1), "branches", "kernel-1x1"),
        (nn.Conv2d(8, 8, 7, padding=3, padding_mode="reflect"), "contexts", None),
        (nn.Conv2d(8, 8, 7, padding=3, padding_mode="reflect"), "branches", "map-too-small"),
        (nn.Conv2d(8, 8, 7, padding=3, padding_mode="circular"), "contexts", None),
        (nn.Conv2d(8, 8, 9, padding=4, padding_mode="circular"), "all", "map-too-small"),
    ],
    ids=str,
)
def test_refusals(conv, parts, code):
    site = only_site(conv, parts)
    assert site.reason_code == code, site.reason
    assert site.converts == (code is None)


# ------------------------------------------------------------------ loading from and into layers with other parts


def resting(layer, keys):
    """``layer`` with these parameters as in a new layer."""
    with torch.no_grad():
        for key in keys & set(dict(layer.named_parameters())):
            layer.get_parameter(key).fill_(1.0 if key == "switch.bias" else 0.0)
    return layer


@each
@pytest.mark.parametrize("assign", [False, True])
def test_a_whole_layer_loads_some_parts_and_computes_the_same(parts, assign):
    layer = oracle.shake(layer_of(parts)[1])
    whole = oracle.shake(layer_of("all")[1], seed=7)
    names = [name for name, _ in whole.named_parameters()]
    whole.load_state_dict(copy.deepcopy(layer.state_dict()), assign=assign)
    assert [name for name, _ in whole.named_parameters()] == names
    assert torch.equal(whole(X), layer(X))
    assert relative_error(whole(X), oracle.saconv(layer, X)) < 2e-5


@each
def test_some_parts_load_a_whole_layer_whose_others_rest(parts):
    others = KEYS["all"] - KEYS[parts]
    whole = resting(oracle.shake(layer_of("all")[1]), others)
    layer = oracle.shake(layer_of(parts)[1], seed=7)
    state = whole.state_dict()
    layer.load_state_dict(state)
    assert set(state) == KEYS["all"]  # it is the caller's
    assert torch.equal(layer(X), whole(X))


@each
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("assign", [False, True])
def test_trained_parts_are_not_lost_and_nothing_is_half_loaded(parts, strict, assign):
    whole, layer = oracle.shake(layer_of("all")[1]), oracle.shake(layer_of(parts)[1], seed=7)
    others = KEYS["all"] - KEYS[parts]
    for key in sorted(others):  # each alone
        state = resting(copy.deepcopy(whole), others - {key}).state_dict()
        before, held = copy.deepcopy(layer.state_dict()), dict(layer.named_parameters())
        with pytest.raises(
            RuntimeError, match=rf"{key}: trained parts, which .*parts='{parts}' does not have"
        ) as error:
            layer.load_state_dict(state, strict=strict, assign=assign)
        assert "Missing" not in str(error.value)
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
        assert all(p is held[name] for name, p in layer.named_parameters())


def test_inside_a_model_the_error_names_the_layer():
    a, b = (nn.ModuleDict({"x": oracle.shake(layer_of(parts)[1])}) for parts in ("all", "contexts"))
    with pytest.raises(RuntimeError, match=r"x\.weight_diff, x\.switch\.weight, x\.switch\.bias: .* at 'x' with parts"):
        b.load_state_dict(a.state_dict())
    resting(a["x"], BRANCHES)
    b.load_state_dict(a.state_dict())
    assert torch.equal(a["x"](X), b["x"](X))


def test_contexts_and_branches_load_each_other_only_at_rest():
    contexts, branches = (oracle.shake(layer_of(parts)[1]) for parts in ("contexts", "branches"))
    with pytest.raises(RuntimeError, match=r"pre_context\.weight, .*trained parts"):
        branches.load_state_dict(contexts.state_dict())
    branches.load_state_dict(resting(contexts, CONTEXTS).state_dict())
    assert torch.equal(branches(X), contexts(X))


@pytest.mark.parametrize("parts", KEYS)
def test_a_plain_convolution_still_lacks_the_new_parameters(parts):
    conv, layer = layer_of(parts)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        layer.load_state_dict(conv.state_dict())
    trained = oracle.shake(layer_of(parts)[1])
    new = {key: value.clone() for key, value in trained.state_dict().items() if key not in SHARED}
    trained.load_state_dict(conv.state_dict(), strict=False)
    assert all(torch.equal(trained.state_dict()[key], value) for key, value in new.items())


def test_half_of_a_part_is_missing():
    state = layer_of("all")[1].state_dict()
    del state["weight_diff"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight_diff"'):
        layer_of("all")[1].load_state_dict(state)


@each
def test_loads_onto_the_meta_device_and_in_half_precision(parts):
    layer = oracle.shake(layer_of(parts)[1])
    empty = SAConv2d(4, 8, 3, padding=1, device="meta")
    empty.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(empty(X), layer(X))
    half, whole = copy.deepcopy(layer).bfloat16(), SAConv2d(4, 8, 3, padding=1, dtype=torch.bfloat16)
    whole.load_state_dict(half.state_dict())
    assert torch.equal(whole(X.bfloat16()), half(X.bfloat16()))


# ------------------------------------------------------------------ how a layer was made


@pytest.mark.parametrize("parts", KEYS)
def test_recipe_makes_the_same_parts_again(parts):
    layer = layer_of(parts)[1]
    recipe = Recipe.of(layer)
    assert recipe.written() == ("saconv" if parts == "all" else {"target": "saconv", "options": {"parts": parts}})
    assert Recipe.read(recipe.written()).make(nn.Conv2d(3, 5, 3)).parts == parts
    with pytest.raises(UsageError, match=r"parts 'contexts, branches'"):
        Recipe.read({"target": "saconv", "options": {"parts": "contexts, branches"}})


@each
def test_converts_absorbs_and_reverts(parts):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 4, 3)).eval()
    conversion = surgeon.convert(model, X, options={"parts": parts}, absorb=True)
    assert conversion.equivalence.bit_equal
    assert type(conversion.model[0].bn) is nn.BatchNorm2d
    back = surgeon.revert(conversion.model)
    assert all(torch.equal(back.state_dict()[key], value) for key, value in model.state_dict().items())
    folding = surgeon.fold(conversion.model, X)
    assert torch.equal(folding.model(X), model(X))


class Pasted(nn.Conv2d):
    """A published layer that was pasted into a model."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        state = published.random_state(self.in_channels, self.out_channels, bias=True)
        self.weight.data = state["weight"]
        for name in ("weight_gamma", "weight_beta"):
            self.register_buffer(name, state[name])
        self.weight_diff = nn.Parameter(state["weight_diff"])
        self.switch = nn.Conv2d(self.in_channels, 1, 1)
        self.pre_context = nn.Conv2d(self.in_channels, self.in_channels, 1)
        self.post_context = nn.Conv2d(self.out_channels, self.out_channels, 1)

    def forward(self, x):
        return published.saconv(self.state_dict(keep_vars=True), x)


def test_pasted_layer_is_not_taken_apart():
    pasted = Pasted(4, 8, 3, padding=1).eval()
    for parts, code in (("all", None), ("contexts", "published-layer"), ("branches", "published-layer")):
        (site, *_) = surgeon.inspect(nn.Sequential(pasted), X, options={"parts": parts})
        assert site.reason_code == code, site.reason


@pytest.mark.parametrize("parts", KEYS)
def test_plans_name_parts_only_if_not_all(parts):
    """So that plans of whole layers are what they were before there was a choice."""
    plan = surgeon.convert(nn.Conv2d(4, 8, 3), X, options={"parts": parts}).plan
    assert plan.options == ({} if parts == "all" else {"parts": parts})
    assert surgeon.apply(nn.Conv2d(4, 8, 3), plan).parts == parts
