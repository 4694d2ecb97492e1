"""Ultralytics models for tests: converted, shaken, saved, run; import it before Ultralytics."""

import os
import subprocess
import sys
import tempfile

import pytest
import torch
from torch import nn

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())  # read when the library is imported
os.environ.setdefault("YOLO_OFFLINE", "true")
ultralytics = pytest.importorskip("ultralytics")
tasks = pytest.importorskip("ultralytics.nn.tasks")

import saconv_surgeon as surgeon  # noqa: E402

SIZE = 64


def built(configuration, seed=0, **options):
    """A plain model, in eval mode."""
    torch.manual_seed(seed)
    library = ultralytics.RTDETR if "rtdetr" in str(configuration) else ultralytics.YOLO
    return library(str(configuration), **options).model.eval()


def converted(configuration, seed=0, **options):
    return surgeon.convert(built(configuration, seed), torch.rand(1, 3, SIZE, SIZE), **options).model


@torch.no_grad()
def shaken(model, seed=1):
    """Norm statistics and new parameters as after a training."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like, scale):
        return torch.randn(like.shape, generator=generator) * scale

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(noise(module.running_mean, 0.1))
            module.running_var.copy_(noise(module.running_var, 0.3).exp())
            module.weight.copy_(noise(module.weight, 0.3).exp())
            module.bias.add_(noise(module.bias, 0.1))
    for parameter in surgeon.new_parameters(model):
        parameter.add_(noise(parameter, 0.1 * max(parameter[0].numel(), 1) ** -0.5))
    return model


def save(model, path):
    """In float32, as ``torch.save`` of a checkpoint: Ultralytics' own ``save`` halves the precision."""
    torch.save({"model": model, "ema": None, "train_args": {"task": getattr(model, "task", "detect")}}, path)
    return path


@torch.no_grad()
def outputs(model, size=SIZE):
    """What the head is given and what it predicts, for one fixed image."""
    found = []
    x = torch.rand(1, model.yaml.get("channels", 3), size, size, generator=torch.Generator().manual_seed(3))
    handle = model.model[-1].register_forward_pre_hook(lambda module, inputs: found.extend(tensors(inputs)))
    try:
        result = model.float().eval()(x)
    finally:
        handle.remove()
    return [t.clone() for t in (*found, *tensors(result))]


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def equal(a, b):
    assert len(a) == len(b) > 0
    return all(torch.equal(x, y) for x, y in zip(a, b))


def in_another_process(script, *arguments, plugins=()):
    """Runs ``script`` in a process that has imported nothing; what it prints to either stream."""
    lines = [f"import {name}" for name in plugins if not name.startswith("no:")]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, script]), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
