"""GFLOPs as Ultralytics prints them: of plain models to the digit, of converted ones what is computed."""

import copy
import types

import pytest
import torch
from torch import nn

from tests.integrations.yolo import built, converted, shaken, tasks

import saconv_surgeon as surgeon  # isort: skip
from saconv_surgeon.integrations.ultralytics import register

thop = pytest.importorskip("thop")
get_flops = pytest.importorskip("ultralytics.utils.torch_utils").get_flops

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]

TARGETS = {
    "saconv": {},
    "aws": {"target": "aws"},
    "contexts": {"options": {"parts": "contexts"}},
    "branches": {"options": {"parts": "branches"}},
    "spconv": {"target": "spconv", "options": {"ratio": "1/4"}},
    "absorbed": {"absorb": True},
}


def stock(model, size=640):
    """The library's own count, without this package."""
    image = torch.empty(1, 3, size, size)
    return thop.profile.__wrapped__(model, inputs=[image], stride=32, min_cells=1, verbose=False)[0] / 1e9 * 2


def saconv_by_hand(c_in, c_out, k, pixels_in, pixels_out):
    """Two convolutions, the switch's projection of every input pixel and its 5x5 mean, two contexts, two global means."""
    products = 2 * c_in * c_out * k * k * pixels_out + c_in * pixels_in + c_in**2 + c_out**2
    means = c_in * (pixels_in + 1) + c_out * (pixels_out + 1) + 26 * pixels_out
    return products + means


def contexts_by_hand(c_in, c_out, k, pixels_in, pixels_out):
    """One convolution, two contexts, two global means."""
    products = c_in * c_out * k * k * pixels_out + c_in**2 + c_out**2
    return products + c_in * (pixels_in + 1) + c_out * (pixels_out + 1)


def branches_by_hand(c_in, c_out, k, pixels_in, pixels_out):
    """Two convolutions, the switch's projection of every input pixel and its 5x5 mean."""
    return 2 * c_in * c_out * k * k * pixels_out + c_in * pixels_in + 26 * pixels_out


def aws_by_hand(c_in, c_out, k, pixels_in, pixels_out):
    """One convolution, with another kernel."""
    return c_in * c_out * k * k * pixels_out


def hand_of(options):
    if options.get("target") == "aws":
        return aws_by_hand
    parts = options.get("options", {}).get("parts", "all")
    return {"contexts": contexts_by_hand, "branches": branches_by_hand, "all": saconv_by_hand}[parts]


def added_by_hand(model, height, width=None, by_hand=saconv_by_hand):
    """What the converted layers of ``model`` do beyond their convolutions, in GFLOPs."""
    found = []

    def look(layer, inputs, output):
        c_in, c_out, k = layer.in_channels // layer.groups, layer.out_channels, layer.kernel_size[0]
        pixels = inputs[0][0, 0].numel(), output[0, 0].numel()
        assert layer.groups == 1
        found.append(by_hand(c_in, c_out, k, *pixels) - c_in * c_out * k * k * pixels[1])

    handles = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, surgeon.ConvertedLayer)]
    with torch.no_grad():
        model.eval()(torch.rand(1, 3, height, width or height))
    for handle in handles:
        handle.remove()
    return 2 * sum(found) / 1e9


@pytest.mark.parametrize("configuration", ["yolov8n.yaml", "yolo11n.yaml", "yolov8n-cls.yaml", "yolo12n.yaml"])
def test_plain_models_to_the_digit(configuration):
    model = built(configuration)
    assert get_flops(model, 640) == stock(model) > 0


def test_yolov8n_with_all_3x3_converted(caplog):
    """The figure of the fault that was reported: 16.0, and not 9.4."""
    model = converted("yolov8n.yaml")
    assert round(get_flops(model, 640), 1) == 16.0
    assert round(stock(model), 1) == 9.4  # the control
    assert round(model.info()[3], 1) == 16.0
    assert round(get_flops(copy.deepcopy(model), 640), 1) == 16.0


@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("size", [640, 96])
def test_what_conversion_adds(options, size):
    """By hand, from the sizes of each layer on the full image. Everything else is as Ultralytics counts it, norms too."""
    plain, model = built("yolov8n.yaml"), shaken(converted("yolov8n.yaml", **options))
    if options.get("target") != "spconv":
        added = added_by_hand(model, size, by_hand=hand_of(options))
        assert get_flops(model, size) - get_flops(plain, size) == pytest.approx(added, rel=1e-9, abs=1e-9)
    if size == 640:  # this package's own counter, which counts element-wise operations, but fewer for a norm
        flops = surgeon.profile(model, torch.rand(1, 3, size, size), timing=None).flops
        assert get_flops(model, size) == pytest.approx(flops / 1e9, rel=0.05 if "target" in options else 0.01)


def test_images_that_are_not_square():
    plain, model = built("yolov8n.yaml"), converted("yolov8n.yaml")
    added = added_by_hand(model, 320, 640)
    assert get_flops(model, [320, 640]) - get_flops(plain, [320, 640]) == pytest.approx(added, rel=1e-9)


@pytest.mark.parametrize("configuration", ["yolov8n-seg.yaml", "yolo11n-pose.yaml", "yolov8n-cls.yaml", "yolo12n.yaml"])
def test_other_models(configuration):
    """Attention among them, whose cost grows with the square of the image."""
    plain, model = built(configuration), converted(configuration)
    added = added_by_hand(model, 320)
    assert added > 0
    assert get_flops(model, 320) - get_flops(plain, 320) == pytest.approx(added, rel=1e-9)


@pytest.mark.parametrize("own_norm", [False, True])
def test_one_layer_by_hand(own_norm):
    """A norm that is part of the layer costs what thop says it does: four for an element."""
    layer = surgeon.SAConv2d(8, 16, 3, 2, 1, bn=nn.BatchNorm2d(16) if own_norm else None)
    found = thop.profile(nn.Sequential(layer), inputs=[torch.rand(1, 8, 20, 30)], verbose=False)[0]
    assert found == saconv_by_hand(8, 16, 3, 600, 150) + own_norm * 4 * 16 * 150


def test_a_layer_that_is_called_twice_counts_twice():
    layer = surgeon.SAConv2d(8, 8, 3, padding=1)
    found = thop.profile(nn.Sequential(layer, layer), inputs=[torch.rand(1, 8, 10, 10)], verbose=False)[0]
    assert found == 2 * saconv_by_hand(8, 8, 3, 100, 100)


def test_spconv_by_hand():
    """A 3×3 convolution in two groups of a quarter of the channels, 1×1 ones of all, a 2×2 mean, two gates, two norms."""
    layer = surgeon.SPConv2d(16, 32, 3, 2, 1, ratio="1/4")
    found = thop.profile(nn.Sequential(layer), inputs=[torch.rand(1, 16, 20, 30)], verbose=False)[0]
    products = (4 * 32 * 9 // 2 + 4 * 32 + 12 * 32) * 150
    means = 16 * 150 * 5 + 2 * 32 * 151
    assert found == products + means + 2 * 4 * 32 * 150


def test_folded_layers_count_what_is_left():
    """A switch that does not vary: two branches that are added, or one."""
    layer = surgeon.SAConv2d(8, 16, 3, padding=1)
    with torch.no_grad():
        layer.switch.bias.fill_(0.5)
        layer.weight_diff.normal_()
    folded = layer.folded()
    count = thop.profile(nn.Sequential(folded), inputs=[torch.rand(1, 8, 10, 10)], verbose=False)[0]
    assert count == 2 * 8 * 16 * 9 * 100
    with torch.no_grad():
        layer.switch.weight.normal_()
    varying = thop.profile(nn.Sequential(layer.folded()), inputs=[torch.rand(1, 8, 10, 10)], verbose=False)[0]
    assert varying == 2 * 8 * 16 * 9 * 100 + 8 * 100 + 26 * 100
    with torch.no_grad():
        layer.switch.weight.zero_()
        layer.switch.bias.fill_(1)
    assert type(layer.folded()) is nn.Conv2d
    alone = thop.profile(nn.Sequential(layer.folded()), inputs=[torch.rand(1, 8, 10, 10)], verbose=False)[0]
    assert alone == 8 * 16 * 9 * 100


def test_folded_models_count_less():
    model = shaken(converted("yolov8n.yaml"))
    folded = surgeon.fold(model, torch.rand(1, 3, 64, 64)).model
    assert get_flops(folded, 640) < get_flops(model, 640)
    flops = surgeon.profile(folded, torch.rand(1, 3, 640, 640), timing=None).flops
    assert get_flops(folded, 640) == pytest.approx(flops / 1e9, rel=0.01)


def test_deformable_layers(monkeypatch):
    """The operator is stood in for; its products are those of the convolution, beside two 3×3 convolutions for the offsets."""
    from saconv_surgeon.convs import deformable

    operator = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "deform_conv2d"):
        operator.define("deform_conv2d(Tensor input, Tensor weight, Tensor offset) -> Tensor")
        operator.impl(
            "deform_conv2d",
            lambda x, w, o: x.new_zeros(x.shape[0], w.shape[0], *o.shape[-2:]),
            "CompositeExplicitAutograd",
        )
    else:
        pytest.skip("the real operator takes other arguments than this stand-in")
    try:
        monkeypatch.setattr(
            deformable,
            "deformed",
            lambda conv, x, offset, weight, rate: torch.ops.torchvision.deform_conv2d(x, weight, offset),
        )
        layer = surgeon.DeformableSAConv2d(8, 16, 3, 2, 1)
        found = thop.profile(nn.Sequential(layer), inputs=[torch.rand(1, 8, 20, 30)], verbose=False)[0]
        offsets = 2 * 8 * 18 * 9 * 150 + 8 * 600 * 26
        assert found == saconv_by_hand(8, 16, 3, 600, 150) + offsets
    finally:
        operator._destroy()


def test_layers_of_other_packages():
    """Whatever a layer computes: here a matrix product without a module, beside a module of thop's."""

    class Own(surgeon.ConvertedLayer):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(4, 8, 1)

        def forward(self, x):
            y = self.first(x)
            return (y.flatten(2).transpose(1, 2) @ torch.ones(8, 5)).transpose(1, 2).unflatten(2, x.shape[2:])

    found = thop.profile(nn.Sequential(Own()), inputs=[torch.rand(2, 4, 6, 6)], verbose=False)[0]
    assert found == 2 * 36 * (4 * 8 + 8 * 5)


def test_blocks_that_a_configuration_names(tmp_path):
    register()
    rows = "nc: 2\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, {}, [16, 3, 1]]]\nhead: [[-1, 1, Classify, [nc]]]\n"
    for word in ("SAConvBlock", "Conv"):
        (tmp_path / f"{word}-cls.yaml").write_text(rows.format(word))
    ours, plain = built(tmp_path / "SAConvBlock-cls.yaml"), built(tmp_path / "Conv-cls.yaml")
    added = saconv_by_hand(16, 16, 3, 112**2, 112**2) - 16 * 16 * 9 * 112**2
    assert get_flops(ours, 224) - get_flops(plain, 224) == pytest.approx(2 * added / 1e9, rel=1e-9)


def test_the_model_is_left_as_it_was():
    model = converted("yolov8n.yaml").train()
    get_flops(model, 640)  # which runs it, so that its head keeps its anchors
    before = {name: (tuple(vars(m)), m.training, len(m._forward_hooks)) for name, m in model.named_modules()}
    get_flops(model, 640)
    assert before == {name: (tuple(vars(m)), m.training, len(m._forward_hooks)) for name, m in model.named_modules()}


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_in_every_mode(mode):
    model = converted("yolov8n.yaml")
    with mode():
        assert round(get_flops(model, 640), 1) == 16.0


def test_the_summary_of_a_training():
    from ultralytics.utils.torch_utils import model_info_for_loggers

    trainer = types.SimpleNamespace(
        args=types.SimpleNamespace(profile=False, imgsz=640),
        model=converted("yolov8n.yaml"),
        validator=types.SimpleNamespace(speed={"inference": 1.0}),
    )
    assert round(model_info_for_loggers(trainer)["model/GFLOPs"], 1) == 16.0


def test_one_layer_after_another_as_predict_profiles():
    """``model.predict(x, profile=True)`` asks for each row by itself."""
    lines = []
    model = converted("yolov8n.yaml")
    handler = tasks.LOGGER
    info, handler.info = handler.info, lines.append
    try:
        with torch.no_grad():
            model.predict(torch.rand(1, 3, 64, 64), profile=True)
    finally:
        handler.info = info
    rows = [float(line.split()[1]) for line in lines if line.strip().endswith(("Conv", "Detect", "C2f"))]
    assert sum(rows[:1]) == pytest.approx(2e-9 * (saconv_by_hand(3, 16, 3, 64**2, 32**2) + 4 * 16 * 32**2), abs=0.006)
