"""``register()``: the words that a YAML may use, scaled as their plain kin."""

import copy
import sys
import types
import warnings

import pytest
import torch
from torch import nn

from tests.integrations.yolo import SIZE, built, equal, in_another_process, outputs, save, shaken, tasks, ultralytics

import saconv_surgeon as surgeon  # isort: skip
from saconv_surgeon.errors import ModelError, UsageError
from saconv_surgeon.integrations import ultralytics as integration
from saconv_surgeon.integrations.ultralytics import YOLO, SurgicalDetectionTrainer, register, surgery_of, unregister

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]

KIN = {"SAConv2d": "Conv", "SAConvBlock": "Conv", "C2f_SAConv": "C2f", "C3k2_SAConv": "C3k2"}
SCALES = {"n": [0.50, 0.25, 1024], "s": [0.50, 0.50, 1024], "m": [0.67, 0.75, 576], "x": [1.00, 1.50, 512]}
TEXT = """
nc: 2
scales: {scales}
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, {conv}, [128, 3, 2]]
  - [-1, 3, {c2f}, [128, True]]
  - [-1, 4, {conv}, [128, 3, 1]]
  - [-1, 6, {c3k2}, [1024, False, 0.25]]
  - [-1, 1, {conv}, [256, 5, 2, None, 2, 1]]
head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 3, {c2f}, [512]]
  - [[8], 1, Detect, [nc]]
"""
PLAIN = {"conv": "Conv", "c2f": "C2f", "c3k2": "C3k2"}
OURS = {"conv": "SAConvBlock", "c2f": "C2f_SAConv", "c3k2": "C3k2_SAConv"}


@pytest.fixture(autouse=True)
def registered():
    register()
    yield
    register()


def write(folder, words, scale="n"):
    path = folder / f"yolov8{scale}-{'ours' if words is OURS else 'plain'}.yaml"
    path.write_text(TEXT.format(scales=SCALES, **words))
    return path


def stock_trainer(nc=2, kind=None):
    """As far as ``get_model`` needs one."""
    kind = kind or ultralytics.models.yolo.detect.DetectionTrainer
    trainer = kind.__new__(kind)
    trainer.data, trainer.args = {"nc": nc, "channels": 3, "names": {i: str(i) for i in range(nc)}}, None
    return trainer


@pytest.mark.parametrize("scale", SCALES)
def test_width_and_depth_are_those_of_the_kin(scale, tmp_path):
    """The oracle: the plain model. New blocks compute what it does, to the bit, so every channel and repeat is equal."""
    ours, plain = built(write(tmp_path, OURS, scale)), built(write(tmp_path, PLAIN, scale))
    assert equal(outputs(ours, 128), outputs(plain, 128))
    assert [type(row).__name__ for row in ours.model[:5]] == [
        "Conv",
        "SAConvBlock",
        "C2f_SAConv",
        "Sequential",
        "C3k2_SAConv",
    ]
    assert [type(block) for block in ours.model[3]] == [surgeon.SAConvBlock] * round(4 * SCALES[scale][0])
    assert len(ours.model[2].m) == len(plain.model[2].m) == max(round(3 * SCALES[scale][0]), 1)
    assert [(m.i, m.f) for m in ours.model] == [(m.i, m.f) for m in plain.model]
    assert all(m.np == sum(p.numel() for p in m.parameters()) for m in ours.model)
    assert ours.model[1].type == "saconv_surgeon.convs.block.SAConvBlock"
    assert ours.save == plain.save
    assert surgery_of(ours) == {}
    assert not any(isinstance(m, surgeon.ConvertedLayer) for m in built(write(tmp_path, PLAIN, scale)).modules())


def test_large_scales_of_c3k2_have_other_blocks(tmp_path):
    """What ``parse_model`` decides by the class itself: m, l and x get ``C3k``, and a head that is not of the old form."""
    small, large = built(write(tmp_path, OURS, "s")), built(write(tmp_path, OURS, "m"))
    assert {type(block).__name__ for block in small.model[4].m} == {"Bottleneck"}
    assert {type(block).__name__ for block in large.model[4].m} == {"C3k"}
    assert large.model[-1].legacy is False
    block = large.model[4].m[0].m[0].cv1
    assert type(block.conv) is surgeon.SAConv2d


def test_the_published_models_with_other_words(tmp_path):
    """All of YOLOv8 and YOLO11, as published, with the words in place of their kin."""
    for name in ("v8/yolov8.yaml", "11/yolo11.yaml"):
        text = (tasks.Path(ultralytics.__file__).parent / "cfg/models" / name).read_text()
        file = tmp_path / f"{name[:2].strip('/')}n.yaml".replace("v8n", "yolov8n").replace("11n", "yolo11n")
        file.write_text(
            text.replace(" C2f,", " C2f_SAConv,").replace(" C3k2,", " C3k2_SAConv,").replace(" Conv,", " SAConvBlock,")
        )
        ours, plain = built(file), built(f"{file.stem}.yaml")
        assert equal(outputs(ours), outputs(plain))
        assert sum(isinstance(m, surgeon.ConvertedLayer) for m in ours.modules()) > 20


def test_the_bare_convolution(tmp_path):
    """No norm, no activation, padded as a ``Conv``; the oracle is torch's convolution with the same kernel."""
    (tmp_path / "bare-cls.yaml").write_text(
        "nc: 2\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, SAConv2d, [32, 3, 2, None, 2, 3]]]\n"
        "head: [[-1, 1, Classify, [nc]]]\n"
    )
    layer = built(tmp_path / "bare-cls.yaml").model[1]
    assert type(layer) is surgeon.SAConv2d
    assert (layer.padding, layer.groups, layer.dilation, layer.bn, layer.act) == ((3, 3), 2, (3, 3), None, None)
    x = torch.rand(1, 16, 20, 20)
    wanted = nn.functional.conv2d(x, layer.weight, None, 2, 3, 3, 2)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("SAConv2d, [16, 3, 1, None, 1, 1, True]", r"SAConv2d takes at most \[c2, k, s, p, g, d\] in a YAML"),
        ("SAConvBlock, [16, 3, 1, None, 1, 1, True, True]", r"SAConvBlock takes at most \[c2, k, s, p, g, d, act\]"),
    ],
)
def test_arguments_without_a_meaning_are_refused(row, message, tmp_path):
    (tmp_path / "net.yaml").write_text(f"nc: 2\nbackbone: [[-1, 1, {row}]]\nhead: [[[0], 1, Detect, [nc]]]\n")
    with pytest.raises(UsageError, match=message):
        built(tmp_path / "net.yaml")


def test_the_activation_is_that_of_the_configuration(tmp_path):
    file = write(tmp_path, OURS)
    file.write_text(file.read_text() + "activation: nn.ReLU()\n")
    model = built(file)
    assert type(model.model[1].act) is nn.ReLU
    assert not any(isinstance(m, nn.SiLU) for m in model.model[:3].modules())


def test_twice_is_once_and_there_is_a_way_back(tmp_path):
    parse = tasks.parse_model
    register()
    assert tasks.parse_model is parse is ultralytics.nn.parse_model
    unregister()
    unregister()
    assert tasks.parse_model is parse.__wrapped__ is ultralytics.nn.parse_model
    with pytest.raises(KeyError, match="SAConvBlock"):
        built(write(tmp_path, OURS))
    register()
    assert type(built(write(tmp_path, OURS)).model[1]) is surgeon.SAConvBlock


def test_a_version_that_builds_otherwise_is_refused(monkeypatch):
    """Names that are resolved, or scaled, in another way."""
    unregister()
    stock = tasks.parse_model

    def unscaled(d, ch, verbose=True):
        return stock({**d, "width_multiple": 1.0}, ch, verbose)

    def other(d, ch, verbose=True):
        return [], []

    for parse in (unscaled, other):
        monkeypatch.setattr(tasks, "parse_model", parse)
        with pytest.raises(ModelError, match=r"does not build configurations in the way that register\(\) relies on"):
            register()
        assert tasks.parse_model is parse
    monkeypatch.undo()


@pytest.mark.parametrize("kind", ["stock", "surgical"])
@pytest.mark.parametrize("nc", [2, 5])
def test_trainers_rebuild_the_blocks(kind, nc, tmp_path):
    """As ``train()`` does, also for another data set: nothing of backbone and neck is lost."""
    weights = shaken(built(write(tmp_path, OURS)))
    trainer = stock_trainer(nc, SurgicalDetectionTrainer if kind == "surgical" else None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = trainer.get_model(cfg=weights.yaml, weights=weights, verbose=False)
    assert [str(w.message) for w in said if "saconv_surgeon" in str(w.message) or "onverted" in str(w.message)] == []
    assert [type(m) for m in model.modules() if isinstance(m, surgeon.ConvertedLayer)] == [
        type(m) for m in weights.modules() if isinstance(m, surgeon.ConvertedLayer)
    ]
    assert model.model[-1].nc == nc
    assert equal(outputs(model, 128)[:1], outputs(weights, 128)[:1])
    scratch = trainer.get_model(cfg=weights.yaml, weights=None, verbose=False)
    assert type(scratch.model[1]) is surgeon.SAConvBlock


def test_a_converted_model_with_words_keeps_both(tmp_path):
    """A model that names blocks is converted, too: the other layers."""
    model = surgeon.convert(built(write(tmp_path, OURS)), torch.rand(1, 3, SIZE, SIZE)).model
    surgery = surgery_of(model)
    assert "model.0.conv" in surgery
    assert not any(path.startswith(("model.1", "model.2.", "model.3", "model.4.")) for path in surgery)
    shaken(model)
    rebuilt = stock_trainer(2, SurgicalDetectionTrainer).get_model(cfg=model.yaml, weights=model, verbose=False)
    assert surgery_of(rebuilt) == surgery
    assert equal(outputs(rebuilt, 128), outputs(model, 128))


def test_fuse_passes_by(tmp_path):
    model = shaken(built(write(tmp_path, OURS))).double()
    x = torch.rand(1, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        before = model(x)[0]
        after = copy.deepcopy(model).fuse(verbose=False)(x)[0]
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


def test_a_process_that_has_not_registered(tmp_path, pytestconfig):
    """The checkpoint brings the words along: it is loaded and rebuilt with stock classes alone."""
    file = save(shaken(built(write(tmp_path, OURS))), tmp_path / "words.pt")
    script = """
import sys, torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
model = YOLO(sys.argv[1]).model
again = DetectionModel(model.yaml, nc=5, verbose=False)
again.load(model)
ours = lambda m: [type(part).__name__ for part in m.modules() if "SAConv" in type(part).__name__]
print("equal", ours(model) == ours(again), len(ours(again)))
"""
    wanted = sum("SAConv" in type(m).__name__ for m in YOLO(file).model.modules())
    assert f"equal True {wanted}" in in_another_process(script, file, plugins=pytestconfig.getoption("plugins"))


def test_workers_for_several_devices_register(tmp_path, monkeypatch, pytestconfig):
    """Ultralytics writes a script for them; the trainer is given a YAML, which the new process has to build."""
    import pickle

    from ultralytics.utils import checks, dist

    monkeypatch.setattr(checks, "check_requirements", lambda *args, **kwargs: True)
    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    monkeypatch.setattr(dist, "torch_save", lambda content, path, **kwargs: torch.save(content, path))
    monkeypatch.setitem(sys.modules, "cloudpickle", pickle)
    trainer = types.SimpleNamespace(args=types.SimpleNamespace(), model=None, callbacks={})
    file = dist.generate_ddp_file(trainer)
    lines = tasks.Path(file).read_text().splitlines()
    until = next(i for i, line in enumerate(lines) if "torch_load(" in line)
    script = "\n".join(
        [
            *lines[:until],
            "    from ultralytics.nn.tasks import DetectionModel",
            "    import sys",
            "    print('row', type(DetectionModel(sys.argv[1], verbose=False).model[1]).__name__)",
        ]
    )
    said = in_another_process(script, write(tmp_path, OURS), plugins=pytestconfig.getoption("plugins"))
    assert "row SAConvBlock" in said


def test_the_blocks_without_a_configuration():
    """In code of one's own: arguments and names are those of the plain blocks."""
    for ours, plain in ((integration.C2f_SAConv, tasks.C2f), (integration.C3k2_SAConv, tasks.C3k2)):
        torch.manual_seed(0)
        block = ours(16, 32, 2)
        torch.manual_seed(0)
        wanted = plain(16, 32, 2)
        block.load_state_dict(wanted.state_dict(), strict=False)
        x = torch.rand(1, 16, 12, 12)
        torch.testing.assert_close(block.eval()(x), wanted.eval()(x), rtol=0, atol=0)
        assert set(wanted.state_dict()) <= set(block.state_dict())
        assert sum(isinstance(m, surgeon.SAConv2d) for m in block.modules()) == 4


def test_depthwise_convolutions_stay_plain():
    block = integration.C3k2_SAConv(64, 128, 1, attn=True)
    depthwise = [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]
    assert depthwise
    assert all(type(conv) is nn.Conv2d for conv in depthwise)
    assert any(isinstance(m, surgeon.SAConv2d) for m in block.modules())
