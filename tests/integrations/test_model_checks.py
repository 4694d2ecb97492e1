"""What is said of a model when it is unpickled: converted layers that a stock trainer dropped, blocks under borrowed names."""

import copy
import json
import warnings

import pytest
import torch
import yaml

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
from saconv_surgeon.integrations.ultralytics import (
    RECORD,
    YOLO,
    C2f_SAConv,
    SurgicalDetectionTrainer,
    surgery_of,
    unregister,
)

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]

GONE = r"of the 39 converted layers of this model are gone: .* train the converted checkpoint with saconv_surgeon.integrations"
WARNED = """
import sys, warnings
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    {load}
print("said", [str(w.message) for w in said if "onverted" in str(w.message)])
"""


@pytest.fixture(scope="module")
def model():
    return shaken(converted("yolov8n.yaml"))


def rebuilt(configuration, weights, kind=ultralytics.models.yolo.detect.DetectionTrainer, nc=2):
    """What ``train()`` trains."""
    trainer = kind.__new__(kind)
    trainer.data, trainer.args = {"nc": nc, "channels": 3, "names": {0: "a", 1: "b"}}, None
    return trainer.get_model(cfg=configuration, weights=weights, verbose=False)


def said_by(load):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load()
    return [str(w.message) for w in said if "onverted" in str(w.message) or "blocks of" in str(w.message)]


# ------------------------------------------------------------------ layers that a stock trainer dropped


@pytest.mark.parametrize("weights", ["with weights", "from scratch"])
def test_the_checkpoint_of_a_stock_trainer(weights, model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost = rebuilt(copy.deepcopy(model.yaml), copy.deepcopy(model) if weights == "with weights" else None)
        lost = rebuilt(model.yaml, None) if surgery_of(lost) == surgery_of(model) else lost
    assert len(surgery_of(lost)) < 39
    # as a training does: an average, halved, and the file read and written again at the end
    file = save(copy.deepcopy(lost).half(), tmp_path / "best.pt")
    with pytest.warns(UserWarning, match=GONE):
        content = torch.load(file, weights_only=False)
    torch.save(content, file)
    for load in (lambda: torch.load(file, weights_only=False), lambda: ultralytics.YOLO(file), lambda: YOLO(file)):
        with pytest.warns(UserWarning, match=GONE):
            load()


@pytest.mark.parametrize(
    "load",
    ["import torch; torch.load(sys.argv[1], weights_only=False)", "from ultralytics import YOLO; YOLO(sys.argv[1])"],
)
def test_a_process_that_knows_nothing_of_this_package(load, model, tmp_path, pytestconfig):
    lost = rebuilt(model.yaml, None)
    assert surgery_of(lost) == {}
    file = save(lost, tmp_path / "best.pt")
    said = in_another_process(WARNED.format(load=load), file, plugins=pytestconfig.getoption("plugins"))
    assert "39 of the 39 converted layers of this model are gone" in said


def test_what_is_whole_is_not_warned_of(model, tmp_path):
    """Converted, fused, folded, taken back and plain models; copies of what was lost, which the trainer makes."""
    x = torch.rand(1, 3, 64, 64)
    at_rest = converted("yolov8n.yaml")
    models = [model, copy.deepcopy(model).fuse(verbose=False), built("yolov8n.yaml"), surgeon.revert(at_rest)]
    models += [surgeon.fold(model, x).model, shaken(converted("yolov10n.yaml")).fuse(verbose=False)]
    for i, whole in enumerate(models):
        file = save(whole, tmp_path / f"{i}.pt")
        assert said_by(lambda file=file: torch.load(file, weights_only=False)) == []
    lost = rebuilt(model.yaml, None)
    assert said_by(lambda: copy.deepcopy(lost)) == []


def test_the_record_is_a_dictionary_like_any_other(model):
    record = model.yaml[RECORD]
    assert isinstance(record, dict)
    assert record["model.1.conv"] == "saconv"
    assert yaml.safe_load(yaml.safe_dump(model.yaml))[RECORD] == json.loads(json.dumps(record)) == record
    assert copy.deepcopy(model.yaml) == model.yaml


def test_files_of_older_versions(model, tmp_path):
    """Their record is a plain dictionary; it is noticed by a process that uses this package."""
    lost = rebuilt(copy.deepcopy(model.yaml), None)
    lost.yaml[RECORD] = dict(lost.yaml[RECORD])
    file = save(lost, tmp_path / "old.pt")
    with pytest.warns(UserWarning, match=GONE):
        YOLO(file)
    old = copy.deepcopy(model)
    old.yaml[RECORD] = dict(old.yaml[RECORD])
    file = save(old, tmp_path / "old.pt")
    assert said_by(lambda: YOLO(file)) == []


# ------------------------------------------------------------------ borrowed names


NET = """
nc: 2
scales: {{n: [0.5, 0.5, 1024]}}
backbone: [[-1, 1, {other}, [32, 3, 2]], [-1, 1, {name}, [64, 3, 1]], [-1, 1, {other}, [64, 3, 2]], [-1, 4, {name}, [64, 3, 1]],
  [-1, 1, {other}, [128, 3, 2]]]
head: [[[4], 1, Detect, [nc]]]
"""


KINDS = {"ours": SurgicalDetectionTrainer, "stock": ultralytics.models.yolo.detect.DetectionTrainer}


def borrowed(name, tmp_path, block=surgeon.SAConvBlock):
    """A checkpoint whose configuration calls ``block`` by ``name``, from a process in which that name was given to it."""
    unregister()
    path = tmp_path / "yolov8n-net.yaml"
    path.write_text(NET.format(name=name, other="Conv"))
    own = getattr(tasks, name)
    setattr(tasks, name, block)
    try:
        model = shaken(built(path))
        assert type(model.model[1]) is block
        return save(model, tmp_path / "trained.pt"), outputs(model)
    finally:
        setattr(tasks, name, own)


@pytest.mark.parametrize(
    "kind", [SurgicalDetectionTrainer, ultralytics.models.yolo.detect.DetectionTrainer], ids=["ours", "stock"]
)
@pytest.mark.parametrize("name", ["Focus", "DWConv", "GhostConv", "SCDown"])
def test_a_block_under_a_borrowed_name_stays(name, kind, tmp_path):
    file, wanted = borrowed(name, tmp_path)
    model = YOLO(file).model
    assert equal(outputs(model), wanted)
    found = rebuilt(model.yaml, model, kind)
    assert [type(row).__name__ for row in found.model[:4:2]] == [type(row).__name__ for row in model.model[:4:2]]
    assert type(found.model[1]) is surgeon.SAConvBlock
    assert [type(block) for block in found.model[3]] == [surgeon.SAConvBlock] * 2
    assert equal(outputs(found)[:1], wanted[:1])
    assert type(rebuilt(model.yaml, None, kind).model[1]) is surgeon.SAConvBlock


@pytest.mark.parametrize("name", ["C2f", "C3"])
def test_a_larger_block_under_a_borrowed_name_stays(name, tmp_path):
    unregister()
    path = tmp_path / "yolov8n-net.yaml"
    path.write_text(
        NET.format(name="Conv", other="Conv").replace("[-1, 4, Conv, [64, 3, 1]]", f"[-1, 4, {name}, [64, True]]")
    )
    own = getattr(tasks, name)
    setattr(tasks, name, C2f_SAConv)
    try:
        model = shaken(built(path))
        file, wanted = save(model, tmp_path / "trained.pt"), outputs(model)
    finally:
        setattr(tasks, name, own)
    model = YOLO(file).model
    found = rebuilt(model.yaml, model, KINDS["stock"])
    assert type(found.model[3]) is C2f_SAConv
    assert equal(outputs(found)[:1], wanted[:1])


def test_a_process_that_lacks_the_line(tmp_path, pytestconfig):
    """Stock classes alone: unpickling the block imports this package, which gives it a name of its own."""
    file, _ = borrowed("Focus", tmp_path)
    script = """
import sys
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
model = YOLO(sys.argv[1]).model
print("rows", [type(row).__name__ for row in DetectionModel(model.yaml, verbose=False).model])
"""
    said = in_another_process(script, file, plugins=pytestconfig.getoption("plugins"))
    assert "rows ['Conv', 'SAConvBlock', 'Conv', 'Sequential', 'Conv', 'Detect']" in said


def test_ultralytics_own_save_gives_the_word(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text(NET.format(name="Focus", other="Conv"))
    own = tasks.Focus
    tasks.Focus = surgeon.SAConvBlock
    try:
        yolo = YOLO(path)
        yolo.save(str(tmp_path / "trained.pt"))
    finally:
        tasks.Focus = own
    rows = torch.load(tmp_path / "trained.pt", weights_only=False)["model"].yaml["backbone"]
    assert [row[2] for row in rows] == ["Conv", "SAConvBlock", "Conv", "SAConvBlock", "Conv"]


class Two(torch.nn.Module):
    """A user's own block, which no word means."""

    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.first = surgeon.SAConvBlock(c1, c2, k, s)
        self.second = surgeon.SAConvBlock(c2, c2, k)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize(
    "kind", [SurgicalDetectionTrainer, ultralytics.models.yolo.detect.DetectionTrainer], ids=["ours", "stock"]
)
def test_blocks_that_no_word_means_are_named_when_they_are_lost(kind, tmp_path):
    file, _ = borrowed("Focus", tmp_path, Two)
    model = YOLO(file).model
    assert [row[2] for row in model.yaml["backbone"]] == ["Conv", "Focus", "Conv", "Focus", "Conv"]
    said = said_by(lambda: rebuilt(model.yaml, model, kind))
    assert any("6 blocks of the weights are lost (first: model.1.first, a SAConvBlock" in text for text in said)


def test_arguments_that_mean_something_else_are_not_renamed(tmp_path):
    """The bare layer pads nothing unless told to, and a ``Conv`` keeps the size: the word would be another model."""
    unregister()
    path = tmp_path / "net-cls.yaml"
    path.write_text(
        "nc: 2\nbackbone: [[-1, 1, Conv, [16, 3, 2]], [-1, 1, Focus, [16, 3, 1]]]\nhead: [[-1, 1, Classify, [nc]]]\n"
    )
    own = tasks.Focus
    tasks.Focus = surgeon.SAConv2d
    try:
        model = built(path)
    finally:
        tasks.Focus = own
    again = copy.deepcopy(model)
    assert again.yaml["backbone"][1][2] == "Focus"
    assert any(
        "no plain convolution at their place" in text
        for text in said_by(lambda: tasks.ClassificationModel(path, nc=2, verbose=False).load(model))
    )
