"""The samples and the small nets: each still has the property that it was made for."""

import random
import time
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

import sample_models
from sample_models import awkward, tiny_attention, tiny_mobilenet, tiny_resnet, tiny_segmenter, tiny_unet, tiny_yolo
from tests import nets

SAMPLES = [tiny_resnet, tiny_yolo, tiny_unet, awkward, tiny_mobilenet, tiny_segmenter, tiny_attention]
NETS = [
    *(nets.chain, nets.OneConv, nets.Tied, nets.Reader, nets.Direct, nets.Held, nets.Functional, nets.Brackets),
    *(nets.normed, nets.hooked, nets.patched, nets.root_conv, nets.SharedConv, nets.AliasedConv, nets.TwoSizes),
    *(nets.ControlFlow, nets.NeverRuns, nets.SubclassConv, nets.DictOutput, nets.DataclassOutput, nets.TwoInputs),
    *(nets.NamedTupleOutput, nets.RandomOutput, nets.OsRandom, nets.StatefulCounter, nets.IndexedSequential),
    *(nets.ConvInModuleDict, nets.WideChain, nets.BracketNames, nets.DropoutNet),
]


def over(modules):
    return pytest.mark.parametrize("module", modules, ids=short_name)


def short_name(module):
    return module.__name__.rsplit(".", 1)[-1]


every_sample = over(SAMPLES)


def run(model, inputs):
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def tensors(output):
    """Every tensor of an output, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    elif hasattr(output, "__dataclass_fields__"):
        output = list(vars(output).values())
    return [t for item in output for t in tensors(item)] if isinstance(output, (list, tuple)) else []


def evaluated(model, inputs):
    with torch.no_grad():
        return run(model.eval(), inputs)


def calls_of(model, inputs):
    """The map sizes that each convolution module was called with, by the first of its names."""
    seen = {name: [] for name, m in model.named_modules() if isinstance(m, nn.modules.conv._ConvNd)}
    for name, shapes in seen.items():
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, s=shapes: s.append(tuple(args[0].shape[2:]))
        )
    evaluated(model, inputs)
    return seen


def random_states():
    python, numpy = random.getstate(), np.random.get_state()
    return [torch.get_rng_state().tolist(), python, numpy[1].tolist(), numpy[2:]]


# ------------------------------------------------------------------ every sample


def test_every_file_is_tested_and_listed():
    folder = Path(sample_models.__file__).parent
    files = {f.stem for f in folder.glob("*.py") if not f.stem.startswith("_")}
    assert files == {short_name(m) for m in SAMPLES}
    for name in files:
        assert name in sample_models.__doc__
    assert sample_models.__doc__.count("\n") == 0


@every_sample
def test_builds_in_train_mode_and_gives_finite_numbers_in_both_modes(module):
    model, inputs = module.build(), module.example_inputs()
    assert all(m.training for m in model.modules())
    for output in (run(model, inputs), evaluated(model, inputs)):
        assert tensors(output)
        assert all(t.isfinite().all() for t in tensors(output) if t.is_floating_point())


@every_sample
def test_same_weights_inputs_and_outputs_whatever_the_callers_seed(module):
    torch.manual_seed(1)
    first, first_inputs = module.build(), module.example_inputs()
    torch.manual_seed(2)
    second, second_inputs = module.build(), module.example_inputs()
    assert first is not second
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    pairs = zip(tensors(evaluated(first, first_inputs)), tensors(evaluated(second, second_inputs)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@every_sample
def test_global_random_states_are_left_alone(module, monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    before = random_states()
    module.build()
    module.example_inputs()
    assert random_states() == before
    assert reseeded == []


@every_sample
def test_norms_are_as_after_training(module):
    for norm in module.build().modules():
        if isinstance(norm, _BatchNorm):
            for fresh, value in ((0, norm.running_mean), (1, norm.running_var), (1, norm.weight), (0, norm.bias)):
                assert (value != fresh).all()
                assert value.unique().numel() > 1


@every_sample
def test_parameters_reach_the_output(module):
    """Nothing is dead by accident: all but the convolution that never runs has a gradient in training."""
    model = module.build()
    outputs = tensors(run(model, module.example_inputs()))
    sum(t.square().sum() for t in outputs if t.requires_grad).backward()
    dead = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert dead <= ({"never", "branches.dark", "branches.bright[x]"} if module is awkward else set())


@every_sample
def test_light(module):
    def best(action):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            action()
            times.append(time.perf_counter() - start)
        return min(times)

    model, inputs = module.build(), module.example_inputs()
    assert best(module.build) < 0.5
    assert best(lambda: evaluated(model, inputs)) < 0.3


# ------------------------------------------------------------------ the idea of each


@over([tiny_yolo, awkward])
def test_root_cannot_be_traced(module):
    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(module.build())


def test_most_others_can_be_traced():
    """The control of the test above."""
    for module in (tiny_resnet, tiny_unet, tiny_mobilenet, tiny_segmenter):
        model, inputs = module.build().eval(), module.example_inputs()
        traced = fx.symbolic_trace(model)
        pairs = zip(tensors(evaluated(model, inputs)), tensors(evaluated(traced, inputs)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_resnet_options_and_shortcuts():
    model = tiny_resnet.build(depth=3, width=8, num_classes=7)
    assert evaluated(model, tiny_resnet.example_inputs()).shape == (2, 7)
    assert [len(stage) for stage in (model.layer1, model.layer2, model.layer3)] == [3, 3, 3]
    assert model.conv1.out_channels == 8
    assert model.layer1[0].downsample is None
    assert model.layer2[0].downsample[0].kernel_size == (1, 1)
    assert model.layer2[0].conv1.stride == model.layer2[0].downsample[0].stride == (2, 2)


def test_yolo_outputs_in_both_modes():
    model, x = tiny_yolo.build(), tiny_yolo.example_inputs()
    height, width = x.shape[-2:]
    sizes = [(height // s, width // s) for s in (4, 8, 16)]
    maps = model(x)
    assert isinstance(maps, list)
    assert [tuple(m.shape[-2:]) for m in maps] == sizes
    decoded, raw = evaluated(model, x)
    assert decoded.shape == (1, 4 + 4, sum(h * w for h, w in sizes))
    assert [m.shape for m in raw] == [m.shape for m in maps]
    scores, boxes = decoded[:, 4:], decoded[:, :4]
    assert (scores > 0).all() and (scores < 1).all()
    assert (boxes > 0).all() and (boxes < tiny_yolo.BINS - 1).all()


def test_yolo_boxes_are_the_expected_distances():
    decoded, raw = evaluated(tiny_yolo.build(), tiny_yolo.example_inputs())
    bins = raw[0][0, : 4 * tiny_yolo.BINS, 2, 3].view(4, tiny_yolo.BINS).softmax(1)
    wanted = (bins * torch.arange(tiny_yolo.BINS)).sum(1)
    torch.testing.assert_close(decoded[0, :4, 2 * raw[0].shape[-1] + 3], wanted)


def test_yolo_neck_goes_down_and_up_again():
    """The bottom-up half is what a pyramid without it lacks: the finest features must reach the coarsest head."""
    model, x = tiny_yolo.build().eval(), tiny_yolo.example_inputs()
    before = model(x)[1]
    sources = model.model[-1].f
    finest_split = model.model[sources[0]]
    with torch.no_grad():
        finest_split.cv2.bn.bias += 1
    after = model(x)[1]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    routes = [layer.f for layer in model.model]
    assert sum(isinstance(f, list) for f in routes[:-1]) == 4
    assert [m.mode for m in model.model if isinstance(m, nn.Upsample)] == ["nearest", "nearest"]


def test_yolo_containers_never_run_themselves():
    model, ran = tiny_yolo.build(), []
    for name, m in model.named_modules():
        if m is model.model or isinstance(m, nn.ModuleList):
            m.register_forward_hook(lambda *_, n=name: ran.append(n))
    evaluated(model, tiny_yolo.example_inputs())
    assert ran == []
    assert all(calls for calls in calls_of(model, tiny_yolo.example_inputs()).values())


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("size", [(75, 93), (64, 64), (33, 40)])
def test_unet_keeps_any_size(bilinear, size):
    model = tiny_unet.build(bilinear=bilinear)
    assert evaluated(model, torch.randn(1, 1, *size)).shape == (1, 3, *size)
    kinds = Counter(type(m) for m in model.modules())
    assert kinds[nn.ConvTranspose2d] == (0 if bilinear else 3)
    assert kinds[nn.Upsample] == (3 if bilinear else 0)


def test_unet_norms_and_biases():
    model = tiny_unet.build()
    assert any(side % 8 for side in tiny_unet.example_inputs().shape[-2:])
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))
    assert any(isinstance(m, nn.GroupNorm) for m in model.downs.modules())
    assert not any(isinstance(m, (nn.GroupNorm, _BatchNorm)) for m in model.ups.modules())


def test_mobilenet_is_depthwise_with_squeeze_and_excite():
    model = tiny_mobilenet.build()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(c.groups == c.in_channels > 1 and c.kernel_size > (1, 1) for c in convs) == 3
    assert sum(isinstance(m, tiny_mobilenet.SqueezeExcite) for m in model.modules()) == 3
    assert any(isinstance(m, nn.Hardswish) for m in model.modules())
    assert [m.add for m in model if isinstance(m, tiny_mobilenet.InvertedResidual)] == [True, False, True]


def test_segmenter_has_a_second_head_in_training_only():
    model, x = tiny_segmenter.build(), tiny_segmenter.example_inputs()
    trained, found = model(x), evaluated(model, x)
    assert type(trained) is type(found) is OrderedDict
    assert list(trained) == ["out", "aux"]
    assert list(found) == ["out"]
    assert found["out"].shape == (1, 5, *x.shape[-2:])
    calls = calls_of(model, x)
    assert [name for name, shapes in calls.items() if not shapes] == ["aux.0.0", "aux.1"]
    assert calls["aspp.pool.1"] == [(1, 1)]
    for part in (model.body, model.aspp.branches[1:]):
        assert [m.dilation[0] for m in part.modules() if isinstance(m, nn.Conv2d)] == [2, 4]


def test_attention_takes_keywords_and_heeds_the_mask():
    model, inputs = tiny_attention.build(), tiny_attention.example_inputs()
    assert list(inputs) == ["pixels", "token_mask"]
    masked, open_ = evaluated(model, inputs), evaluated(model, {"pixels": inputs["pixels"]})
    torch.testing.assert_close(masked["tokens"][0], open_["tokens"][0])
    assert not torch.allclose(masked["tokens"][1], open_["tokens"][1])
    assert isinstance(model.attention, nn.MultiheadAttention)


def test_attention_spelled_out_is_attention():
    spelled, x = tiny_attention.build().spelled, torch.randn(2, 5, 32)
    q, k, v = (part.view(2, 5, 4, 8).transpose(1, 2) for part in spelled.qkv(x).chunk(3, -1))
    wanted = spelled.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 32))
    torch.testing.assert_close(spelled(x), wanted)


# ------------------------------------------------------------------ awkward


def test_awkward_calls():
    model = awkward.build()
    assert model.alias is model.shared
    calls = calls_of(model, awkward.example_inputs())
    assert calls["shared"] == [(24, 32), (24, 32)]
    assert calls["two_sizes"] == [(12, 16), (24, 32)]
    assert len(calls["branches.dark"]) + len(calls["branches.bright[x]"]) == 1
    unused = {name for name, shapes in calls.items() if not shapes}
    assert unused - {"branches.dark", "branches.bright[x]"} == {"never"}


def test_awkward_data_decide_the_branch():
    """Both sides of ``x.mean() > 0`` can be reached."""
    x, mask = awkward.example_inputs()
    taken = set()
    for bias in (-5.0, 5.0):
        model = awkward.build()
        nn.init.constant_(model.shared.bias, bias)
        taken |= {name for name, shapes in calls_of(model, (x, mask)).items() if shapes and name.startswith("branches")}
    assert taken == {"branches.dark", "branches.bright[x]"}


def test_awkward_kinds():
    model = awkward.build()
    assert type(model.standardised) is not nn.Conv2d
    assert isinstance(model.standardised, nn.Conv2d)
    assert parametrize.is_parametrized(model.normed, "weight")
    assert parametrize.is_parametrized(model.spectral, "weight")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert {c.padding_mode for c in convs} == {"zeros", "reflect", "circular", "replicate"}
    assert {c.dilation for c in convs if c.padding == "same"} == {(1, 1), (2, 2)}
    assert 1 < model.grouped.groups < model.depthwise.groups == model.depthwise.in_channels
    assert model.pointwise.kernel_size == (1, 1)
    kinds = {type(m) for m in model.modules()}
    assert {nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d} <= kinds


@pytest.mark.parametrize(
    ("name", "output"),
    [
        *(
            (name, lambda found: found["map"])
            for name in ("kernel", "volume.weight", "up.weight", "standardised.weight")
        ),
        ("along.weight", lambda found: found["small"][1][0]),
    ],
)
def test_awkward_parts_matter(name, output):
    """The functional kernel and the branches of other kinds are no decoration."""
    model, inputs = awkward.build(), awkward.example_inputs()
    output(run(model, inputs)).square().sum().backward()
    assert model.get_parameter(name).grad.abs().max() > 0


def test_awkward_inputs_and_outputs():
    model, (x, mask) = awkward.build(), awkward.example_inputs()
    found, bare = evaluated(model, (x, mask)), evaluated(model, (x,))
    assert isinstance(found, dict)
    assert isinstance(found["found"], awkward.Found)
    assert not torch.allclose(found["map"], bare["map"])
    assert torch.equal(evaluated(model, {"x": x, "mask": None})["map"], bare["map"])


# ------------------------------------------------------------------ the small nets of the unit tests


def moved(net, prepare=lambda: None):
    """Whether two calls of ``net`` on the same input, each after ``prepare``, differ."""
    outputs = []
    for _ in range(2):
        prepare()
        outputs.append(tensors(run(net, nets.example(net))))
    return not all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize("make", NETS, ids=lambda make: make.__name__)
def test_every_net_runs_and_says_what_it_is_for(make):
    net = make()
    assert make.__doc__ and make.__doc__.count("\n") == 0
    assert tensors(evaluated(net, nets.example(net)))
    if hasattr(net, "INPUT"):
        assert nets.example(net).shape == net.INPUT


def test_every_net_is_listed():
    defined = {v for v in vars(nets).values() if isinstance(v, type) and issubclass(v, nn.Module)}
    assert {v for v in defined if v.__module__ == "tests.nets"} - set(NETS) == {nets.Subclass, nets.StdConv}


def test_nets_that_move_by_themselves():
    seeded = lambda: torch.manual_seed(0)
    assert moved(nets.RandomOutput().eval()) and not moved(nets.RandomOutput().eval(), seeded)
    assert moved(nets.OsRandom().eval(), seeded)
    assert moved(nets.StatefulCounter().eval(), seeded)
    assert moved(nets.DropoutNet()) and not moved(nets.DropoutNet(), seeded) and not moved(nets.DropoutNet().eval())
    for make in NETS:
        if make not in (nets.RandomOutput, nets.OsRandom, nets.StatefulCounter):
            assert not moved(make().eval()), make


@pytest.mark.parametrize(
    ("net", "calls"),
    [
        (nets.SharedConv(), {"conv": 2}),
        (nets.AliasedConv(), {"a": 2}),
        (nets.NeverRuns(), {"conv": 1, "never": 0}),
        (nets.Direct(), {"conv": 0}),
        (nets.Functional(), {}),
        (nets.Held(), {"held": 1, "free": 1}),
        (nets.ConvInModuleDict(), {"parts.near": 1, "parts.far": 1, "parts.spare": 0}),
        (nets.BracketNames(), {"blocks[red]": 1, "blocks[/red]": 1}),
        (nets.WideChain(3), {"convs.0": 1, "convs.1": 1, "convs.2": 1}),
        (nets.root_conv(), {"": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_calls_of_nets(net, calls):
    assert {name: len(shapes) for name, shapes in calls_of(net, nets.example(net)).items()} == calls


def test_two_sizes_and_control_flow_of_nets():
    assert calls_of(nets.TwoSizes(), nets.X)["conv"] == [(16, 16), (8, 8)]
    for x, taken in ((nets.X + 9, "above"), (nets.X - 9, "below")):
        assert [name for name, shapes in calls_of(nets.ControlFlow(), x).items() if shapes] == [taken]
    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(nets.ControlFlow())


def test_indexed_sequential_would_give_something_else():
    net, ran = nets.IndexedSequential().eval(), []
    net.layers.register_forward_hook(lambda *_: ran.append(1))
    y = evaluated(net, nets.X)
    assert ran == []
    assert not torch.allclose(y, net.layers(nets.X))


def test_outputs_and_inputs_of_nets():
    assert type(evaluated(nets.DictOutput(), nets.X)) is dict
    assert type(evaluated(nets.DataclassOutput(), nets.X)) is nets.Record
    assert type(evaluated(nets.NamedTupleOutput(), nets.X)) is nets.Pair
    two = nets.TwoInputs()
    assert not torch.allclose(evaluated(two, two.example()), evaluated(two, (nets.X,)))
    assert type(nets.root_conv()) is nn.Conv2d
    conv = nets.SubclassConv().conv
    assert not torch.allclose(conv(nets.X), conv._conv_forward(nets.X, conv.weight, conv.bias))
