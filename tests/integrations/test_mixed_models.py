"""Ultralytics models whose layers became different things: rebuilt from their configuration, converted twice, saved."""

import copy
from dataclasses import replace

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.surgery.inspect import make_plan
from tests.integrations.yolo import SIZE, built, equal, outputs, shaken

from saconv_surgeon.integrations import ultralytics as integration  # isort: skip
from saconv_surgeon.integrations.ultralytics import surgery_of  # isort: skip

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]
X = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
OWN = [("saconv", {"parts": "contexts"}), ("aws", {}), ("saconv", {}), ("spconv", {"ratio": "1/4"})]


def mixed_plan(model):
    """The eligible convolutions in turn become four different things."""
    plan = make_plan(model, X)
    chosen = [s.path for s in plan.sites if s.converts and s.arguments.in_channels >= 16][:8]

    def changed(site):
        if site.path not in chosen:
            return replace(site, decision="refuse")
        target, options = OWN[chosen.index(site.path) % len(OWN)]
        return replace(site, target=target, options=options)

    return replace(plan, sites=tuple(map(changed, plan.sites)))


def recipes(model):
    return {path: (recipe.target, dict(recipe.options)) for path, recipe in surgery_of(model).items()}


def test_a_trainer_rebuilds_each_layer_as_what_it_is():
    model = built("yolov8n.yaml")
    plan = mixed_plan(model)
    converted = shaken(surgeon.convert(model, X, plan=plan).model)
    made = {s.path: (s.target, dict(s.options)) for s in plan.sites if s.converts}
    assert recipes(converted) == made
    trainer = integration.SurgicalDetectionTrainer.__new__(integration.SurgicalDetectionTrainer)
    trainer.data = {"nc": 80, "channels": 3}
    trainer.args = type("Args", (), {"cls_pw": 0.0})()
    for weights in (copy.deepcopy(converted), None):
        again = trainer.get_model(copy.deepcopy(converted.yaml), weights, verbose=False).eval()
        assert recipes(again) == made
        assert weights is None or equal(outputs(again), outputs(converted))


def test_converting_twice(tmp_path):
    model = built("yolov8n.yaml")
    once = surgeon.convert(model, X, min_stride=16, options={"parts": "contexts"})
    both = surgeon.convert(once.model, X, target="aws")
    assert both.equivalence.passed
    kinds = {both.plan.target_of(s)[0] for s in both.plan.sites if s.converts}
    assert kinds == {"saconv", "aws"}
    assert recipes(both.model).keys() == set(both.plan.converted_paths)
    shaken(both.model)
    surgeon.save(both, tmp_path / "out")
    again = surgeon.restore(built("yolov8n.yaml"), tmp_path / "out").eval()
    assert equal(outputs(again), outputs(both.model))
