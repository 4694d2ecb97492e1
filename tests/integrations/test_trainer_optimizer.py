"""Ultralytics: new parts have groups of their own, are warmed up as kernels are, and resume."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from tests.integrations import yolo as models  # before Ultralytics

ultralytics = models.ultralytics

from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402

import saconv_surgeon as surgeon  # noqa: E402
from saconv_surgeon.integrations.ultralytics import YOLO, SurgicalDetectionTrainer, surgery_of  # noqa: E402
from tests.integrations.test_ultralytics import arguments, make_data  # noqa: E402

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"), "detect")


@pytest.fixture(scope="module")
def model():
    return models.shaken(models.converted("yolov8n.yaml")).requires_grad_(True)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    return models.save(copy.deepcopy(model), tmp_path_factory.mktemp("checkpoint") / "converted.pt")


def built(model, trainer=SurgicalDetectionTrainer, name="SGD"):
    """The optimiser that a trainer builds, without a data set."""
    self = object.__new__(trainer)
    self.args = SimpleNamespace(lr0=0.01, optimizer=name, warmup_bias_lr=0.1)
    self.data = {"nc": 2}
    return self.build_optimizer(model=model, name=name, lr=0.01, momentum=0.9, decay=5e-4, iterations=100)


def new_in(model):
    return {id(parameter) for parameter in surgeon.new_parameters(model)}


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSProp", "Adam"])
def test_new_parts_are_one_group_after_the_stock_ones(model, name):
    optimizer, stock = built(model, name=name), built(model, DetectionTrainer, name=name)
    assert len(optimizer.param_groups) == len(stock.param_groups) + 1
    new = new_in(model)
    for group, other in zip(optimizer.param_groups, stock.param_groups):
        assert {key: value for key, value in group.items() if key != "params"} == {
            key: value for key, value in other.items() if key != "params"
        }
        assert [id(p) for p in group["params"]] == [id(p) for p in other["params"] if id(p) not in new]
    last = optimizer.param_groups[-1]
    assert {id(p) for p in last["params"]} == new
    assert len(last["params"]) == len(new)
    assert (last["name"], last["lr"], last["weight_decay"]) == ("new parts", pytest.approx(0.03), 0.0)
    assert last["param_group"] not in ("bias", "weight", "muon", "bn")


def test_with_muon_new_kernels_stay_with_it(model):
    optimizer, stock = built(model, name="MuSGD"), built(model, DetectionTrainer, name="MuSGD")
    new = new_in(model)
    rest = optimizer.param_groups[len(stock.param_groups) :]
    assert {id(p) for group in rest for p in group["params"]} == new
    origin = {id(p): group for group in stock.param_groups for p in group["params"]}
    for group in rest:
        for parameter in group["params"]:
            was = origin[id(parameter)]
            assert group["use_muon"] == was["use_muon"]
            assert group["lr"] == pytest.approx(3 * was["lr"])
            assert group["momentum"] == was["momentum"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_plain_models_have_the_stock_groups():
    plain = models.built("yolov8n.yaml")
    assert len(built(plain).param_groups) == len(built(plain, DetectionTrainer).param_groups)


def test_other_targets_and_frozen_layers(model):
    aws = models.converted("yolov8n.yaml", target="aws")
    assert len(built(aws).param_groups) == 3  # nothing is new
    spconv = models.converted("yolov8n.yaml", target="spconv", include=["model.4.*"])
    assert {id(p) for p in built(spconv).param_groups[-1]["params"]} == new_in(spconv) != set()
    frozen = copy.deepcopy(model).requires_grad_(False)
    assert {id(p) for p in built(frozen).param_groups[-1]["params"]} == new_in(frozen)  # as Ultralytics does


def test_the_ratio_of_a_trainer_of_ones_own(model):
    class Mine(SurgicalDetectionTrainer):
        new_lr = 0.5

    assert built(model, Mine).param_groups[-1]["lr"] == pytest.approx(0.005)


def test_wrapped_models(model):
    assert built(torch.nn.DataParallel(model)).param_groups[-1]["name"] == "new parts"


class Interrupted(Exception):
    pass


def rates_of(yolo, **train):
    """The rates of the groups before every batch, and how they are called."""
    seen = []
    yolo.add_callback(
        "on_train_batch_end",
        lambda trainer: seen.append(
            [(g.get("param_group"), g["lr"], g["initial_lr"]) for g in trainer.optimizer.param_groups]
        ),
    )
    yolo.train(**train)
    return seen


def test_warm_up_raises_new_parts_as_it_does_kernels(data, checkpoint, tmp_path):
    yolo = YOLO(checkpoint)
    train = arguments(data, tmp_path, epochs=3, warmup_epochs=2, batch=2, nbs=2, warmup_bias_lr=0.1)
    seen = rates_of(yolo, **train)
    assert len(seen) == 12
    for step in seen:
        rate = {label: lr for label, lr, _ in step}
        assert rate["new parts"] == pytest.approx(3 * rate["weight"])
    first = {label: lr for label, lr, _ in seen[0]}
    assert first["bias"] == pytest.approx(0.1)
    assert first["new parts"] == first["weight"] == 0
    assert {label: initial for label, _, initial in seen[-1]}["new parts"] == pytest.approx(0.03)


@pytest.mark.parametrize("ratio", [1.0, 10])
def test_the_ratio_is_an_argument_and_survives_resuming(data, checkpoint, tmp_path, ratio):
    def interrupt(trainer):
        if trainer.epoch == 0:
            raise Interrupted

    def train(epochs, stop, **more):
        yolo = YOLO(checkpoint)
        if stop:
            yolo.add_callback("on_fit_epoch_end", interrupt)
        try:
            seen.append(rates_of(yolo, **arguments(data, tmp_path, epochs=epochs, new_lr=ratio, seed=1, **more)))
        except Interrupted:
            return yolo.trainer
        return yolo.trainer

    seen = []
    whole = train(2, stop=False)
    first = train(2, stop=True)
    saved = torch.load(first.last, weights_only=False)
    assert saved["optimizer"]["param_groups"][-1]["name"] == "new parts"
    resumed = YOLO(first.last)
    rates = rates_of(resumed, resume=True)
    assert rates == seen[0][len(seen[0]) // 2 :]
    assert rates[0][-1][1] == pytest.approx(ratio * rates[0][0][1])
    assert surgery_of(resumed.model) == surgery_of(YOLO(whole.best).model)


def test_a_run_that_began_without_a_ratio_goes_on_without(data, checkpoint, tmp_path, monkeypatch):
    """As those of versions before there was one: its checkpoint holds three groups, and no ratio."""

    def interrupt(trainer):
        if trainer.epoch == 0:
            raise Interrupted

    with monkeypatch.context() as older:
        older.setattr(SurgicalDetectionTrainer, "build_optimizer", DetectionTrainer.build_optimizer)
        older.setattr("saconv_surgeon.integrations.ultralytics.trainers.setattr", lambda *a: None, raising=False)
        yolo = YOLO(checkpoint)
        yolo.add_callback("on_fit_epoch_end", interrupt)
        with pytest.raises(Interrupted):
            yolo.train(**arguments(data, tmp_path, epochs=2))
    resumed = YOLO(yolo.trainer.last)
    with pytest.warns(UserWarning, match="resuming ignores new_lr"):
        rates = rates_of(resumed, resume=True, new_lr=5.0)
    assert [len(step) for step in rates] == [3, 3]
    assert surgery_of(resumed.model)


def test_a_ratio_of_an_earlier_run_is_not_taken_over(data, checkpoint, tmp_path):
    yolo = YOLO(checkpoint)
    rates_of(yolo, **arguments(data, tmp_path, new_lr=7.0))
    rates = rates_of(YOLO(yolo.trainer.best), **arguments(data, tmp_path))
    assert rates[0][-1][2] == pytest.approx(0.03)


def test_several_data_sets_with_a_ratio(data, checkpoint, tmp_path):
    yolo = YOLO(checkpoint)
    rates = rates_of(yolo, **arguments(data, tmp_path, new_lr=2.0) | {"data": [str(data)]})
    assert [step[-1][2] for step in rates] == pytest.approx([0.02] * len(rates))


def test_a_worker_has_the_ratio_of_its_model(model):
    """With several devices, workers get the trainer's arguments, which do not hold the ratio, and the model that it built."""
    given = copy.deepcopy(model)
    given.saconv_surgeon_new_lr = 2.0
    assert built(torch.nn.DataParallel(given)).param_groups[-1]["lr"] == pytest.approx(0.02)


@pytest.mark.parametrize("ratio", [0, -1, math.inf, math.nan, "3", None])
def test_a_ratio_that_is_none(data, checkpoint, tmp_path, ratio):
    with pytest.raises(surgeon.UsageError, match=r"new_lr is .* give a finite number above 0"):
        YOLO(checkpoint).train(**arguments(data, tmp_path, new_lr=ratio))


def test_what_is_trained_loads_in_the_stock_library(data, checkpoint, tmp_path):
    yolo = YOLO(checkpoint)
    yolo.train(**arguments(data, tmp_path, new_lr=2.0))
    stock = ultralytics.YOLO(yolo.trainer.last)
    assert stock.val(
        **{k: v for k, v in arguments(data, tmp_path).items() if k in ("data", "imgsz", "plots", "device")}
    )
