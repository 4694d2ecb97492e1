"""Diffs of real pairs of models: what a person would say differs, and nothing else."""

import pytest

import saconv_surgeon as surgeon
from saconv_surgeon.comparing.aligning import align
from saconv_surgeon.comparing.parts_of_model import tree
from saconv_surgeon.comparing.structure_changes import changes_of

pytestmark = pytest.mark.zoo


def changes(a, b):
    return changes_of(align(tree(a), tree(b)))


def test_resnet34_is_resnet18_with_eight_blocks_more():
    timm = pytest.importorskip("timm")
    found = changes(timm.create_model("resnet18"), timm.create_model("resnet34"))
    assert [(c.change, c.path) for c in found] == [
        ("added", f"layer{stage}.{block}")
        for stage, blocks in ((1, (2,)), (2, (2, 3)), (3, (2, 3, 4, 5)), (4, (2,)))
        for block in blocks
    ]


def test_resnext_differs_from_resnet_in_the_width_of_its_blocks_alone():
    timm = pytest.importorskip("timm")
    found = changes(timm.create_model("resnet50"), timm.create_model("resnext50_32x4d"))
    assert {c.change for c in found} == {"changed"}
    assert len(found) == 16 * 5  # of each bottleneck three convolutions and the two norms between them
    assert sum("groups=32" in c.b for c in found) == 16


def test_yolo_sizes_differ_in_width_alone():
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    found = changes(
        tasks.DetectionModel("yolov8n.yaml", verbose=False), tasks.DetectionModel("yolov8s.yaml", verbose=False)
    )
    assert {c.change for c in found} == {"changed"}
    assert {c.a.partition("(")[0] for c in found} <= {"Conv2d", "BatchNorm2d"}


def test_converted_yolo_differs_in_its_convolutions_alone():
    tasks = pytest.importorskip("ultralytics.nn.tasks")
    import torch

    model, x = tasks.DetectionModel("yolov8n.yaml", verbose=False).eval(), torch.rand(1, 3, 128, 128)
    conversion = surgeon.convert(model, x, trials=1)
    found = surgeon.diff(model, conversion.model, x, timing=None)
    layers = {c.path for c in found.structure if c.a != "Conv()"}
    assert layers == set(conversion.plan.converted_paths)
    assert {c.b for c in found.structure if c.path not in layers} == {"SurgicalConv()"}  # guards against fuse()
    assert found.outputs.bit_equal
    assert not (found.weights.changed or found.weights.only_in_a)
    assert {f.use for f in found.freedom_b} == {"at rest"}
