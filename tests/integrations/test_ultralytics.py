"""Ultralytics: fusing, training and exporting converted models, on a data set of eight tiny images."""

import copy
import inspect
import os
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())  # read when the library is imported
os.environ.setdefault("YOLO_OFFLINE", "true")
ultralytics = pytest.importorskip("ultralytics")
blocks = pytest.importorskip("ultralytics.nn.tasks")

import saconv_surgeon as surgeon  # noqa: E402
from saconv_surgeon.convs.aws import ConvAWS2d  # noqa: E402
from saconv_surgeon.errors import UsageError  # noqa: E402
from saconv_surgeon.integrations import ultralytics as integration  # noqa: E402
from saconv_surgeon.integrations.ultralytics import YOLO, protect, surgery_of, unprotect  # noqa: E402
from saconv_surgeon.models.loading.checkpoints import convert_checkpoint  # noqa: E402

pytestmark = [
    pytest.mark.zoo,
    # What the library itself warns of is not ours to mend; what this package warns of is tested by name.
    pytest.mark.filterwarnings("default"),
]

SIZE = 64
FAMILIES = ("yolov8n", "yolov5n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "rtdetr-l")
LABELS = {
    "detect": "0.5 0.5 0.5 0.5",
    "segment": "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75",
    "obb": "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75",
    "pose": "0.5 0.5 0.5 0.5 0.3 0.3 2 0.7 0.7 2",
}
CONFIGURATIONS = {
    "detect": "yolov8n.yaml",
    "segment": "yolov8n-seg.yaml",
    "obb": "yolov8n-obb.yaml",
    "pose": "yolov8n-pose.yaml",
    "classify": "yolov8n-cls.yaml",
}


# ------------------------------------------------------------------ data, models, helpers


def draw(path, label):
    """A bright square, of another colour for each label, on noise."""
    image = np.random.default_rng(label).integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    image[SIZE // 4 : 3 * SIZE // 4, SIZE // 4 : 3 * SIZE // 4, label] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def make_data(root, task):
    """A data set of two classes, as Ultralytics' ``data=`` wants it."""
    for split in ("train", "val"):
        for i in range(8):
            label = i % 2
            if task == "classify":
                draw(root / split / "ab"[label] / f"{i}.png", label)
                continue
            draw(root / "images" / split / f"{i}.png", label)
            text = root / "labels" / split / f"{i}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(f"{label} {LABELS[task]}\n")
    if task == "classify":
        return root
    extra = "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n" if task == "pose" else ""
    config = root / "data.yaml"
    config.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: {{0: a, 1: b}}\n{extra}")
    return config


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"), "detect")


def converted_model(configuration, **options):
    torch.manual_seed(0)
    library = ultralytics.RTDETR if "rtdetr" in configuration else ultralytics.YOLO
    model = library(configuration).model.eval()
    return surgeon.convert(model, torch.rand(1, 3, SIZE, SIZE), **options).model


def save(model, path):
    """As a user's script would: Ultralytics' own ``save``."""
    yolo = ultralytics.YOLO("yolov8n.yaml")
    yolo.model = model
    yolo.save(str(path))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A converted model for 80 classes, shaken so that every part of a converted layer matters."""
    return save(shaken(converted_model("yolov8n.yaml")), tmp_path_factory.mktemp("checkpoint") / "converted.pt")


@torch.no_grad()
def shaken(model):
    """Norm statistics and new parameters as after a training."""
    generator = torch.Generator().manual_seed(1)

    def noise(like, scale):
        return torch.randn(like.shape, generator=generator) * scale

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(noise(module.running_mean, 0.1))
            module.running_var.copy_(noise(module.running_var, 0.3).exp())
            module.weight.copy_(noise(module.weight, 0.3).exp())
            module.bias.add_(noise(module.bias, 0.1))
    for parameter in surgeon.new_parameters(model):
        fan_in = max(parameter[0].numel(), 1)
        parameter.add_(noise(parameter, 0.1 * fan_in**-0.5))
    return model


def arguments(data, folder, **more):
    return {
        "data": str(data),
        "project": str(folder),
        "imgsz": SIZE,
        "batch": 4,
        "nbs": 4,
        "epochs": 1,
        "optimizer": "SGD",
        "lr0": 0.01,
        "warmup_epochs": 0,
        "workers": 0,
        "device": "cpu",
        "plots": False,
        "verbose": False,
        **more,
    }


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


@torch.no_grad()
def signals(model, x):
    """Clones of what the head is given and of what it predicts."""
    found = []
    handle = model.model[-1].register_forward_pre_hook(lambda module, inputs: found.extend(tensors_in(inputs)))
    try:
        result = model.eval()(x)
    finally:
        handle.remove()
    first = result[0] if isinstance(result, (list, tuple)) else result
    return [tensor.clone() for tensor in (*found, *tensors_in(first))]


def distance(a, b):
    assert len(a) == len(b) > 0
    return max(float((x - y).abs().max() / x.abs().max()) for x, y in zip(a, b))


def counts_norms(model):
    """Older versions ask whether few norms are left, not whether fuse() has something to do: calling it again is harmless."""
    return "thresh" in inspect.signature(model.is_fused).parameters


def surgical_state(model):
    return {
        f"{path}.{name}": tensor.detach().clone()
        for path, layer in model.named_modules()
        if isinstance(layer, ConvAWS2d)
        for name, tensor in layer.state_dict().items()
    }


def unmoved(model, before, allowed=0.0):
    """The new parameters that training has not moved, if they are more than ``allowed`` of all.

    Left out: the head's, of which some get no gradient from large squares, a constant in front of a norm, which has none, and
    the switch's bias, next to whose 1 a small step is lost to rounding.
    """
    after = surgical_state(model)
    new = ("weight_diff", "switch.weight", "context.weight", "pre_context.bias")
    head = f"model.{len(model.model) - 1}."
    looked_at = [name for name in before if name.endswith(new) and not name.startswith(head)]
    assert len(looked_at) > 80
    found = [name for name in looked_at if torch.equal(after[name], before[name])]
    return found if len(found) > allowed * len(looked_at) else []


# ------------------------------------------------------------------ fuse()


@pytest.mark.parametrize("family", FAMILIES)
def test_fuse_keeps_the_outputs_and_fuses_the_rest(family):
    """In float64: RT-DETR chooses queries by score, which magnifies what float32 rounds."""
    model = shaken(converted_model(f"{family}.yaml")).double()
    x = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    surgery, before = surgery_of(model), signals(model, x)
    assert len(surgery) >= 20
    model.fuse(verbose=False)
    assert distance(before, signals(model, x)) < 1e-12
    assert model.is_fused() or counts_norms(model)
    if not hasattr(model.model[-1], "one2one_cv2"):  # of two heads, fuse() keeps one under the other's name
        assert surgery_of(model) == surgery
    plain = [m for m in model.modules() if isinstance(m, blocks.Conv)]
    assert len(plain) >= 10
    assert not any(hasattr(block, "bn") for block in plain)
    assert all(type(block.conv) is nn.Conv2d and block.conv.bias is not None for block in plain)
    state = surgical_state(model)
    model.fuse(verbose=False)
    assert all(torch.equal(value, state[name]) for name, value in surgical_state(model).items())


def test_without_protection_fuse_would_corrupt():
    """The control: what the protection is for. The layers themselves stop it, unless they are told not to."""
    model = shaken(converted_model("yolov8n.yaml"))
    x = torch.rand(1, 3, SIZE, SIZE)
    before = signals(model, x)
    unprotect(model)
    assert distance(before, signals(model, x)) == 0
    with pytest.raises(surgeon.NotPlainError, match="saconv-surgeon fold"):
        copy.deepcopy(model).fuse(verbose=False)
    with surgeon.unguarded():
        model.fuse(verbose=False)
    assert distance(before, signals(model, x)) > 1e-2


@pytest.mark.parametrize(
    ("make", "converted", "expected"),
    [
        (lambda: blocks.Conv(8, 8, 3), "conv", integration.SurgicalConv),
        (lambda: ultralytics.nn.modules.conv.DWConv(8, 8, 3), "conv", integration.SurgicalConv),
        (lambda: blocks.Conv2(8, 8, 3), "conv", integration.SurgicalConv2),
        (lambda: blocks.Conv2(8, 8, 3), "cv2", integration.SurgicalConv2),
        (lambda: blocks.RepConv(8, 8, 3), "conv1.conv", integration.SurgicalRepConv),
        (lambda: blocks.RepConv(8, 8, 3, bn=True), "conv2.conv", integration.SurgicalRepConv),
        (lambda: blocks.RepVGGDW(8), "conv.conv", integration.SurgicalRepVGGDW),
        (lambda: blocks.RepVGGDW(8), "conv1.conv", integration.SurgicalRepVGGDW),
    ],
)
def test_every_kind_of_block(make, converted, expected):
    root = ultralytics.YOLO("yolov8n.yaml").model
    block, plain = make(), make()
    root.model = nn.Sequential(block, plain, nn.Identity())
    block.set_submodule(converted, surgeon.SAConv2d.from_conv2d(block.get_submodule(converted)))
    keys, original = list(root.state_dict()), type(block)
    protect(root)
    protect(root)
    assert type(block) is expected
    assert type(plain) is original
    assert list(root.state_dict()) == keys
    shaken(root)
    x = torch.randn(2, 8, 9, 9)
    before = block.eval()(x), plain.eval()(x)
    root.info = lambda **options: None  # counts a whole model, which this is not
    root.fuse()
    torch.testing.assert_close((block(x), plain(x)), before, rtol=1e-4, atol=1e-5)
    assert root.is_fused() or counts_norms(root)
    unprotect(root)
    assert type(block) is original
    assert "plain_class" not in vars(block)


def test_blocks_with_a_forward_of_their_own_are_named():
    class Own(blocks.Conv):
        def forward(self, x):
            return self.conv(x)

    block = Own(8, 8, 3)
    block.conv = surgeon.SAConv2d.from_conv2d(block.conv)
    with pytest.warns(UserWarning, match="Own has a forward of its own and cannot be protected"):
        protect(block)
    assert type(block) is Own


def test_fused_blocks_are_left_alone():
    model = ultralytics.YOLO("yolov8n.yaml").model.eval().fuse(verbose=False)
    x = torch.rand(1, 3, SIZE, SIZE)
    converted = surgeon.convert(model, x).model
    assert len(surgery_of(converted)) >= 20
    assert not any(isinstance(block, integration.SurgicalBlock) for block in converted.modules())
    again = copy.deepcopy(converted).fuse(verbose=False)
    assert distance(signals(converted, x), signals(again, x)) == 0


def test_models_of_other_origin_are_not_touched():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)).eval()
    converted = surgeon.convert(model, torch.rand(1, 3, 8, 8)).model
    protect(converted)
    assert [type(child) for child in converted] == [surgeon.SAConv2d, nn.BatchNorm2d]


def test_protection_survives_another_process(checkpoint, pytestconfig):
    """A process that has never heard of this package loads, fuses and predicts."""
    x = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    wanted = signals(YOLO(checkpoint).model, x)[-1]
    plugins = [f"import {name}" for name in pytestconfig.getoption("plugins") if not name.startswith("no:")]
    script = f"""
{"; ".join(plugins)}
import sys, torch
content = torch.load(sys.argv[1], weights_only=False)
from ultralytics import YOLO
x = torch.rand(1, 3, {SIZE}, {SIZE}, generator=torch.Generator().manual_seed(3))
with torch.no_grad():
    torch.save([m.float().eval().fuse(verbose=False)(x)[0] for m in (content["model"], YOLO(sys.argv[1]).model)], sys.argv[2])
"""
    result = checkpoint.parent / "result.pt"
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint), str(result)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for found in torch.load(result):
        assert distance([wanted], [found]) < 1e-4


# ------------------------------------------------------------------ training


def test_training_validating_predicting_exporting(data, checkpoint, tmp_path):
    yolo = YOLO(checkpoint)
    surgery, before = surgery_of(yolo.model), surgical_state(yolo.model)
    yolo.train(**arguments(data, tmp_path, epochs=2))
    trainer = yolo.trainer
    assert type(trainer) is integration.SurgicalDetectionTrainer

    assert unmoved(trainer.model, before) == []
    for model in (yolo.model, *(YOLO(trainer.wdir / name).model for name in ("best.pt", "last.pt"))):
        assert surgery_of(model) == surgery
        assert model.model[-1].nc == 2
        assert unmoved(model, before, allowed=0.2) == []
    averaged, saved = surgical_state(trainer.ema.ema), surgical_state(YOLO(trainer.last).model)
    assert distance(list(averaged.values()), list(saved.values())) < 1e-3  # half precision

    groups = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(groups) == len(set(groups))
    assert {id(p) for p in trainer.model.parameters() if p.requires_grad} <= set(groups)

    metrics = yolo.val(data=str(data), imgsz=SIZE, workers=0, plots=False, project=str(tmp_path), verbose=False)
    assert np.isfinite(metrics.box.map)
    images = str(data.parent / "images" / "val")
    reloaded = YOLO(trainer.best)
    stock = ultralytics.YOLO(trainer.best)
    found = [y.predict(images, conf=0.001, imgsz=SIZE, verbose=False) for y in (yolo, reloaded, stock)]
    assert sum(len(result) for result in found[0]) > 0
    for other in found[1:]:
        assert all(torch.equal(a.boxes.data, b.boxes.data) for a, b in zip(found[0], other, strict=True))
    x = torch.rand(1, 3, SIZE, SIZE)
    expected = signals(yolo.model, x)[-1]
    assert distance([expected], [signals(copy.deepcopy(yolo.model).fuse(verbose=False), x)[-1]]) < 1e-4

    exported = torch.jit.load(yolo.export(format="torchscript", imgsz=SIZE))
    assert distance([expected], [exported(x)]) < 1e-4


def test_saved_statistics_keep_their_precision(data, checkpoint, tmp_path):
    """Files are cast to half precision twice, when they are saved and when the optimiser's state is taken out."""
    yolo = YOLO(checkpoint)
    yolo.train(**arguments(data, tmp_path))
    content = torch.load(yolo.trainer.last, weights_only=False)
    averaged = surgical_state(yolo.trainer.ema.ema)
    for name, value in surgical_state(content["model"]).items():
        if name.endswith(("weight_gamma", "weight_beta")):
            assert torch.equal(value, averaged[name]), name


def test_what_is_trained_starts_as_the_checkpoint(data, checkpoint, tmp_path):
    """No weight is lost on the way to the first step, although the number of classes changes."""
    start = {}
    yolo = YOLO(checkpoint)
    before = yolo.model.state_dict()
    yolo.add_callback("on_train_start", lambda trainer: start.update(copy.deepcopy(trainer.model.state_dict())))
    yolo.train(**arguments(data, tmp_path))
    different = [name for name in before if name not in start or not torch.equal(start[name], before[name])]
    assert different
    # The scores of 80 classes cannot become those of two; everything else is there.
    assert all(name.startswith("model.22.cv3.") and ".2." in name[-12:] for name in different), different
    assert start.keys() == before.keys()


def test_stock_class_with_our_trainer(data, checkpoint, tmp_path):
    yolo = ultralytics.YOLO(checkpoint)
    surgery = surgery_of(yolo.model)
    yolo.train(trainer=integration.SurgicalDetectionTrainer, **arguments(data, tmp_path))
    assert surgery_of(yolo.model) == surgery


def test_stock_training_loses_the_surgery_and_is_found_out(data, checkpoint, tmp_path):
    """The control: why there are trainers here."""
    yolo = ultralytics.YOLO(checkpoint)
    surgery = surgery_of(yolo.model)
    yolo.train(**arguments(data, tmp_path))
    assert len(surgery_of(yolo.model)) < len(surgery)
    with pytest.warns(UserWarning, match=f"of the {len(surgery)} converted layers of this model are gone"):
        YOLO(yolo.trainer.best)


@pytest.mark.parametrize("task", ["segment", "obb", "pose", "classify"])
def test_every_task(task, tmp_path):
    data = make_data(tmp_path / "data", task)
    path = save(shaken(converted_model(CONFIGURATIONS[task])), tmp_path / "converted.pt")
    yolo = YOLO(path)
    surgery, before = surgery_of(yolo.model), surgical_state(yolo.model)
    yolo.train(**arguments(data, tmp_path))
    assert type(yolo.trainer).__bases__[0] is integration.SurgicalTrainer
    assert surgery_of(yolo.model) == surgery
    assert unmoved(yolo.trainer.model, before) == []
    image = next((tmp_path / "data").rglob("*.png"))
    assert len(yolo.predict(str(image), imgsz=SIZE, conf=0.001, verbose=False)) == 1


def test_rtdetr(data, tmp_path):
    path = save(converted_model("yolov8-rtdetr.yaml"), tmp_path / "converted.pt")
    yolo = YOLO(path)
    assert type(yolo) is integration.SurgicalRTDETR
    surgery = surgery_of(yolo.model)
    yolo.train(**arguments(data, tmp_path, lr0=1e-4))
    assert type(yolo.trainer) is integration.SurgicalRTDETRTrainer
    assert surgery_of(yolo.model) == surgery


@pytest.mark.parametrize(
    "options",
    [{"target": "spconv", "options": {"ratio": "1/4"}}, {"absorb": True}, {"target": "aws"}],
    ids=["spconv", "absorbed", "aws"],
)
def test_other_targets_and_blocks_train_and_survive(options, data, tmp_path):
    """What was converted, its ratio and what it has absorbed are there after training, from scratch too; ``fuse()`` passes by."""
    model = shaken(converted_model("yolov8n.yaml", **options))
    surgery, x = surgery_of(model), torch.rand(1, 3, SIZE, SIZE)
    before, fused = signals(model, x), copy.deepcopy(model)
    fused.fuse(verbose=False)
    assert distance(before, signals(fused, x)) < 1e-4
    path, start = save(model, tmp_path / "converted.pt"), {}
    yolo = YOLO(path)
    yolo.add_callback("on_train_start", lambda trainer: start.update(copy.deepcopy(trainer.model.state_dict())))
    yolo.train(**arguments(data, tmp_path))
    assert surgery_of(yolo.model) == surgery
    state = YOLO(path).model.state_dict()
    kept = [name for name in state if name in start and torch.equal(start[name], state[name])]
    assert start.keys() == state.keys()
    assert len(kept) > 0.85 * len(state)  # all but the scores of 80 classes
    again = YOLO(path)
    again.train(**arguments(data, tmp_path, pretrained=False))
    assert surgery_of(again.model) == surgery


def test_plain_weights_are_projected(data, tmp_path):
    """SPConv has no place for a plain kernel: plain weights are loaded before the surgery."""
    trainer = integration.SurgicalDetectionTrainer(overrides=arguments(data, tmp_path, model="yolov8n.yaml"))
    converted = converted_model("yolov8n.yaml", target="spconv")
    torch.manual_seed(7)
    plain = ultralytics.YOLO("yolov8n.yaml").model
    model = trainer.get_model(cfg=converted.yaml, weights=plain, verbose=False)
    assert surgery_of(model) == surgery_of(converted)
    layer, conv = model.model[1].conv, plain.model[1].conv
    wanted = surgeon.SPConv2d.from_conv2d(conv)
    assert torch.equal(layer.gwc.weight, wanted.gwc.weight)


def test_a_configuration_can_name_the_block(tmp_path, monkeypatch):
    """The block has the argument order of the library's own: put under a name that configurations know, it is built like them."""
    from ultralytics.nn import tasks

    monkeypatch.setattr(tasks, "Focus", surgeon.SAConvBlock)
    (tmp_path / "blocks.yaml").write_text(
        "nc: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, Focus, [32, 3, 2]]\n"
        "  - [-1, 1, Focus, [64, 3, 2, None, 1, 1]]\n"
        "head:\n  - [-1, 1, Classify, [3]]\n"
    )
    model = tasks.ClassificationModel(str(tmp_path / "blocks.yaml"), nc=3, verbose=False).eval()
    assert type(model.model[1]) is surgeon.SAConvBlock
    assert model(torch.rand(1, 3, SIZE, SIZE))[0].shape == (1, 3)
    assert surgery_of(model) == {}


@pytest.mark.parametrize("library", [YOLO, ultralytics.YOLO], ids=["ours", "stock"])
def test_training_a_configuration_that_names_blocks(library, data, tmp_path):
    """From the YAML, from the checkpoint, and again for what that training wrote."""
    integration.register()
    rows = "[-1, 1, Conv, [16, 3, 2]], [-1, 1, SAConvBlock, [32, 3, 2]], [-1, 2, C2f_SAConv, [32, True]]"
    path = tmp_path / "net.yaml"
    path.write_text(f"nc: 80\nbackbone: [{rows}, [-1, 1, Conv, [64, 3, 2]]]\nhead: [[[3], 1, Detect, [nc]]]\n")
    yolo = library(path)
    kinds = [type(module) for module in yolo.model.modules()]
    for _ in range(2):
        yolo.train(**arguments(data, tmp_path))
        assert [type(module) for module in yolo.model.modules()] == kinds
        assert yolo.model.model[-1].nc == 2
        yolo = library(yolo.trainer.best)
    layer = yolo.model.model[1]
    assert type(layer) is surgeon.SAConvBlock
    assert layer.switch.weight.any()  # it was trained


def test_a_model_converted_in_memory(data, tmp_path):
    yolo = YOLO("yolov8n.yaml")
    yolo.model = surgeon.convert(yolo.model.eval(), torch.rand(1, 3, SIZE, SIZE)).model
    surgery = surgery_of(yolo.model)
    yolo.train(**arguments(data, tmp_path))
    assert surgery_of(yolo.model) == surgery


def test_from_scratch_keeps_the_architecture(data, checkpoint, tmp_path):
    """``pretrained=False`` hands no weights to the trainer; the configuration tells what was converted."""
    yolo = YOLO(checkpoint)
    surgery = surgery_of(yolo.model)
    yolo.train(**arguments(data, tmp_path, pretrained=False))
    assert surgery_of(yolo.model) == surgery


def test_plain_weights_for_a_converted_architecture(data, checkpoint, tmp_path):
    torch.manual_seed(5)
    plain = ultralytics.YOLO("yolov8n.yaml")
    plain.save(str(tmp_path / "plain.pt"))
    start = []
    yolo = YOLO(checkpoint)
    surgery = surgery_of(yolo.model)
    yolo.add_callback("on_train_start", lambda trainer: start.append(copy.deepcopy(trainer.model.model[4]).eval()))
    yolo.train(**arguments(data, tmp_path, pretrained=str(tmp_path / "plain.pt")))
    assert surgery_of(yolo.model) == surgery
    x = torch.rand(1, 64, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(start[0](x), plain.model.half().float().model[4].eval()(x), rtol=0, atol=0)


def test_resuming(data, checkpoint, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(trainer):
        if trainer.epoch == 0:
            raise Interrupted

    yolo = YOLO(checkpoint)
    surgery = surgery_of(yolo.model)
    yolo.add_callback("on_fit_epoch_end", interrupt)
    with pytest.raises(Interrupted):
        yolo.train(**arguments(data, tmp_path, epochs=2))
    last = yolo.trainer.last
    saved = torch.load(last, weights_only=False)
    assert saved["epoch"] == 0
    resumed = YOLO(last)
    momentum = []
    resumed.add_callback(
        "on_train_start",
        lambda trainer: momentum.append((trainer.start_epoch, len(trainer.optimizer.state_dict()["state"]))),
    )
    resumed.train(resume=True)
    assert momentum == [(1, len(saved["optimizer"]["state"]))]
    assert momentum[0][1] > 4 * len(surgery)
    assert surgery_of(resumed.model) == surgery


def test_several_data_sets(data, checkpoint, tmp_path):
    """The stock class starts a shell command for each, whose trainer is a stock one."""
    yolo = YOLO(checkpoint)
    yolo.train(**arguments([str(data)], tmp_path) | {"data": [str(data)]})
    (run,) = yolo.trainer.trainers
    assert surgery_of(YOLO(run.best).model) == surgery_of(yolo.model)


def test_what_would_lose_the_surgery_is_refused(data, checkpoint, tmp_path):
    yolo = YOLO(checkpoint)
    stock = ultralytics.models.yolo.detect.DetectionTrainer
    with pytest.raises(UsageError, match="DetectionTrainer builds a model without the converted layers"):
        yolo.train(trainer=stock, **arguments(data, tmp_path))
    with pytest.raises(UsageError, match="use_ray=True"):
        yolo.tune(**arguments(data, tmp_path))


def test_plain_models_train_as_ever(data, tmp_path):
    yolo = YOLO("yolov8n.yaml")
    yolo.train(trainer=ultralytics.models.yolo.detect.DetectionTrainer, **arguments(data, tmp_path))
    assert not surgery_of(yolo.model)


def test_weights_of_another_architecture_are_named(data, checkpoint, tmp_path):
    trainer = integration.SurgicalDetectionTrainer(overrides=arguments(data, tmp_path, model=str(checkpoint)))
    weights = YOLO(checkpoint).model
    with pytest.warns(UserWarning, match=r"converted layers \(first: model\.\d+\..*\) have no plain convolution"):
        model = trainer.get_model(cfg="yolov10n.yaml", weights=weights, verbose=False)
    assert 0 < len(surgery_of(model)) < len(surgery_of(weights))


def test_layers_of_another_shape_compute_what_their_kernel_says(data, checkpoint, tmp_path):
    """A model for grey images takes the summed kernels of the first layer, and nothing else of it."""
    trainer = integration.SurgicalDetectionTrainer(overrides=arguments(data, tmp_path, model=str(checkpoint)))
    trainer.data["channels"] = 1
    cfg = copy.deepcopy(YOLO(checkpoint).model.yaml) | {"channels": 1}
    model = trainer.get_model(cfg=cfg, weights=YOLO(checkpoint).model, verbose=False)
    layer = model.model[0].conv
    assert layer.weight.shape[1] == 1
    plain = nn.Conv2d(1, layer.out_channels, 3, 2, 1, bias=False)
    plain.load_state_dict({"weight": layer.weight})
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)


@pytest.mark.parametrize("trainer", integration.TRAINERS.values(), ids=lambda trainer: trainer.__name__)
def test_trainers_are_found_by_name(trainer):
    """Training on several devices imports the trainer in other processes."""
    assert pickle.loads(pickle.dumps(trainer)) is trainer
    assert issubclass(trainer, ultralytics.engine.trainer.BaseTrainer)


# ------------------------------------------------------------------ checkpoints of finished and running trainings


def test_converting_a_published_kind_of_checkpoint(data, tmp_path):
    """From an Ultralytics file to an Ultralytics file, which trains and predicts."""
    plain = ultralytics.YOLO("yolov8n.yaml")
    plain.train(**arguments(data, tmp_path))
    content = torch.load(plain.trainer.best, weights_only=False)
    x = torch.rand(1, 3, SIZE, SIZE)
    converted = convert_checkpoint(content, lambda model: surgeon.convert(model, x).model)
    assert converted.keys() == content.keys()
    assert {p.dtype for p in converted["model"].parameters()} == {torch.float16}
    path = tmp_path / "converted.pt"
    torch.save(converted, path)
    yolo = YOLO(path)
    assert len(surgery_of(yolo.model)) > 20
    with torch.no_grad():
        assert torch.equal(yolo.model.eval()(x)[0], plain.model.float().eval()(x)[0])
    yolo.train(**arguments(data, tmp_path))
    assert len(surgery_of(yolo.model)) > 20


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x)


def to_saconv(model):
    assert model.conv.weight.dtype == torch.float32
    return surgeon.convert(model, torch.rand(1, 3, 16, 16)).model


def test_checkpoints_of_other_modules():
    content = {
        "epoch": 3,
        "model": Tiny().half(),
        "ema": Tiny().half(),
        "optimizer": {"state": {}},
        "scaler": {"scale": 2.0},
        "train_args": {"lr0": 0.1},
    }
    before = dict(content)
    result = convert_checkpoint(content, to_saconv)
    assert content == before
    for name in ("model", "ema"):
        assert type(result[name].conv) is surgeon.SAConv2d
        assert type(content[name].conv) is nn.Conv2d
        assert result[name].conv.weight.dtype == torch.float16
        assert torch.equal(result[name].conv.weight, content[name].conv.weight)
        assert result[name].conv.weight_gamma.dtype == torch.float32
    assert result["optimizer"] is None
    assert {k: result[k] for k in ("epoch", "scaler", "train_args")} == {
        k: content[k] for k in ("epoch", "scaler", "train_args")
    }


def test_state_that_still_applies_is_kept():
    content = {"model": Tiny(), "ema": None, "optimizer": {"state": {}}}
    result = convert_checkpoint(content, copy.deepcopy)
    assert result["optimizer"] is content["optimizer"]
    assert result["ema"] is None


def test_one_model_under_two_names_stays_one():
    model = Tiny()
    result = convert_checkpoint({"model": model, "ema": model}, to_saconv)
    assert result["model"] is result["ema"]


def test_a_checkpoint_without_a_model_is_refused():
    with pytest.raises(
        surgeon.errors.ModelError, match=r"no model under 'ema' or 'model' or .*; it holds 'state_dict'"
    ):
        convert_checkpoint({"state_dict": {}}, to_saconv)
