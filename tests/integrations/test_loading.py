"""``load()``: of converted weights into plain models, of plain ones into converted models."""

import copy
import warnings

import pytest
import torch
from torch import nn

from tests.integrations.yolo import (
    built,
    converted,
    equal,
    in_another_process,
    outputs,
    save,
    shaken,
    tasks,
    ultralytics,
)

import saconv_surgeon as surgeon  # isort: skip
from saconv_surgeon.errors import UsageError
from saconv_surgeon.integrations.ultralytics import RECORD, YOLO, SurgicalBlock, surgery_of

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]

TARGETS = {
    "saconv": {},
    "aws": {"target": "aws"},
    "contexts": {"options": {"parts": "contexts"}},
    "branches": {"options": {"parts": "branches"}},
    "spconv": {"target": "spconv", "options": {"ratio": "1/4"}},
    "absorbed": {"absorb": True},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return save(shaken(converted("yolov8n.yaml")), tmp_path_factory.mktemp("trained") / "trained.pt")


def loaded(library, configuration, file):
    """The model, and what was warned of it by this package."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = library(configuration).load(str(file)).model
    return model, [str(w.message) for w in said if "onverted" in str(w.message) or "blocks of" in str(w.message)]


@pytest.mark.parametrize("library", [YOLO, ultralytics.YOLO], ids=["ours", "stock"])
@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS)
def test_a_yaml_model_takes_the_layers(library, options, tmp_path):
    model = shaken(converted("yolov8n.yaml", **options))
    wanted, surgery = outputs(copy.deepcopy(model)), surgery_of(model)
    found, said = loaded(library, "yolov8n.yaml", save(model, tmp_path / "trained.pt"))
    assert said == []
    assert surgery_of(found) == surgery
    assert equal(outputs(found), wanted)
    assert found.yaml[RECORD] == model.yaml[RECORD]
    assert sum(isinstance(block, SurgicalBlock) for block in found.modules()) == sum(
        isinstance(block, SurgicalBlock) for block in model.modules()
    )


@pytest.mark.parametrize(
    "configuration",
    ["yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-obb.yaml", "yolov8n-cls.yaml", "yolov8-rtdetr.yaml"],
)
def test_every_task(configuration, tmp_path):
    model = shaken(converted(configuration))
    wanted, surgery = outputs(copy.deepcopy(model)), surgery_of(model)
    library = ultralytics.RTDETR if "rtdetr" in configuration else YOLO
    found, said = loaded(library, configuration, save(model, tmp_path / "trained.pt"))
    assert said == []
    assert surgery_of(found) == surgery
    assert equal(outputs(found), wanted)


def test_a_process_that_knows_nothing_of_this_package(trained, pytestconfig):
    """Loading the file imports it in time."""
    script = """
import sys
from ultralytics import YOLO
assert "saconv_surgeon" not in sys.modules
model = YOLO("yolov8n.yaml").load(sys.argv[1]).model
print("layers", sum(type(m).__name__ == "SAConv2d" for m in model.modules()))
"""
    said = in_another_process(script, trained, plugins=pytestconfig.getoption("plugins"))
    assert f"layers {len(surgery_of(YOLO(trained).model))}" in said


@pytest.mark.parametrize("kind", ["module", "checkpoint"])
def test_the_models_own_load(kind, trained):
    weights = YOLO(trained).model
    model = built("yolov8n.yaml", seed=5)
    model.load(weights if kind == "module" else {"model": weights, "ema": None})
    assert surgery_of(model) == surgery_of(weights)
    assert equal(outputs(model), outputs(weights))


def test_another_number_of_classes(trained):
    """All but the scores of classes, whose last convolutions are new."""
    weights = YOLO(trained).model
    model = tasks.DetectionModel("yolov8n.yaml", nc=2, verbose=False)
    model.load(weights)
    assert surgery_of(model) == surgery_of(weights)
    assert model.model[-1].nc == 2
    found, wanted = model.state_dict(), weights.state_dict()
    different = {name for name in wanted if not torch.equal(found[name], wanted[name].float())}
    assert different == {f"model.22.cv3.{i}.2.{name}" for i in range(3) for name in ("weight", "bias")}
    assert equal(outputs(model)[:3], outputs(weights)[:3])


def test_weights_of_another_task_name_what_they_lose(tmp_path):
    """A classifier has the backbone of a detector, and nothing of its neck and head."""
    weights = shaken(converted("yolov8n.yaml"))
    found, said = loaded(YOLO, "yolov8n-cls.yaml", save(weights, tmp_path / "trained.pt"))
    assert 0 < len(surgery_of(found)) < len(surgery_of(weights))
    assert any("have no plain convolution at their place" in text for text in said)
    layer, wanted = found.model[1].conv, weights.model[1].conv
    assert all(torch.equal(value, wanted.state_dict()[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("options", TARGETS.values(), ids=TARGETS)
def test_plain_weights_leave_the_layers_and_are_what_they_compute(options, tmp_path):
    """The oracle: the plain model; for SPConv, which equals no convolution, its conversion."""
    plain = shaken(built("yolov8n.yaml", seed=9), seed=4)
    exact = options.get("target") != "spconv"
    wanted = outputs(
        copy.deepcopy(plain) if exact else surgeon.convert(plain, torch.rand(1, 3, 64, 64), **options).model
    )
    file = save(plain, tmp_path / "plain.pt")
    yolo = YOLO("yolov8n.yaml")
    yolo.model = shaken(converted("yolov8n.yaml", **options))
    surgery = surgery_of(yolo.model)
    assert not equal(outputs(yolo.model), wanted)
    yolo.load(str(file))
    assert surgery_of(yolo.model) == surgery
    if exact:
        assert equal(outputs(yolo.model), wanted)
    else:
        assert max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(outputs(yolo.model), wanted)) < 1e-4


def test_converted_weights_replace_what_another_training_left():
    """A layer that has learnt something takes all of the other layer."""
    weights, model = shaken(converted("yolov8n.yaml")), shaken(converted("yolov8n.yaml", seed=2), seed=7)
    model.load(weights)
    assert equal(outputs(model), outputs(weights))


def test_contexts_of_aws_weights_do_not_survive():
    """AWS weights have no Δw; a trained SAConv layer that takes them computes what they do."""
    weights, model = shaken(converted("yolov8n.yaml", target="aws", include=["model.1.conv"])), built("yolov8n.yaml")
    model = shaken(surgeon.convert(model, torch.rand(1, 3, 64, 64), include=["model.1.conv"]).model)
    model.load(weights)
    assert type(model.model[1].conv) is surgeon.SAConv2d
    assert equal(outputs(model), outputs(weights))


def test_layers_of_another_kind_are_named_and_left():
    weights = shaken(converted("yolov8n.yaml", include=["model.1.conv"]))
    model = converted("yolov8n.yaml", target="aws", include=["model.1.conv"])
    before = {name: value.clone() for name, value in model.model[1].conv.state_dict().items()}
    with pytest.warns(UserWarning, match=r"1 converted layers \(first: model.1.conv\) are as they were before"):
        model.load(weights)
    assert all(torch.equal(value, before[name]) for name, value in model.model[1].conv.state_dict().items())


def test_folded_weights_are_refused(trained):
    folded = surgeon.fold(YOLO(trained).model, torch.rand(1, 3, 64, 64)).model
    with pytest.raises(UsageError, match=r"folded for inference .* give the checkpoint that was folded"):
        built("yolov8n.yaml").load(folded)


def test_plain_models_load_plain_weights_as_ever(monkeypatch):
    calls = []
    stock = tasks.BaseModel.load.__wrapped__
    weights, model, other = built("yolov8n.yaml", seed=5), built("yolov8n.yaml"), built("yolov8n.yaml")
    model.load(weights)
    stock(other, weights)
    calls += [model.state_dict(), other.state_dict()]
    assert all(torch.equal(value, calls[1][name]) for name, value in calls[0].items())
    assert all(type(m) is not surgeon.SAConv2d for m in model.modules())


def test_a_stock_trainer_is_noticed_at_once(trained):
    """It builds a model from the configuration of the weights, and loads these."""
    weights = ultralytics.YOLO(trained).model
    trainer = ultralytics.models.yolo.detect.DetectionTrainer.__new__(ultralytics.models.yolo.detect.DetectionTrainer)
    trainer.data, trainer.args = {"nc": 80, "channels": 3, "names": {}}, None
    with pytest.warns(
        UserWarning, match=r"a stock trainer has rebuilt .* train the converted checkpoint with saconv_surgeon"
    ):
        trainer.get_model(cfg=weights.yaml, weights=weights, verbose=False)


def test_blocks_of_a_configuration_take_plain_weights(tmp_path):
    """``SAConvBlock`` has the names of the article: the kernel of a ``Conv`` is elsewhere."""
    from saconv_surgeon.integrations.ultralytics import register

    register()
    rows = "nc: 2\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, {}, [16, 3, 1]]]\nhead: [[-1, 1, Classify, [nc]]]\n"
    (tmp_path / "words-cls.yaml").write_text(rows.format("SAConvBlock"))
    (tmp_path / "plain-cls.yaml").write_text(rows.format("Conv"))
    model, plain = (
        shaken(built(tmp_path / "words-cls.yaml")),
        shaken(built(tmp_path / "plain-cls.yaml", seed=5), seed=8),
    )
    assert type(model.model[1]) is surgeon.SAConvBlock
    model.load(plain)
    assert equal(outputs(model), outputs(plain))
    with pytest.warns(UserWarning, match=r"1 blocks of the weights are lost \(first: model.1, a SAConvBlock"):
        plain.load(model)
    assert not any(isinstance(m, nn.Conv2d) and type(m) is not nn.Conv2d for m in plain.modules())
