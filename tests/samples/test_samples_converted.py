"""Every sample model converts to the bit, follows the equations once shaken, trains, and is restored."""

import importlib

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import tensors
from saconv_surgeon.models.running.state import preserved
from tests import oracle

NAMES = ("awkward", "tiny_attention", "tiny_mobilenet", "tiny_resnet", "tiny_segmenter", "tiny_unet", "tiny_yolo")
samples = pytest.mark.parametrize("name", NAMES)


def sample(name):
    module = importlib.import_module(f"sample_models.{name}")
    return module.build(), Inputs.of(module.example_inputs())


def shake_all(model):
    layers = {path: m for path, m in model.named_modules() if isinstance(m, surgeon.SAConv2d)}
    for i, layer in enumerate(layers.values()):
        oracle.shake(layer, seed=i + 10, size=0.02)  # gentle: the errors of deep nets multiply
    return layers


@samples
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_converts_to_the_bit_in_every_dtype(name, dtype):
    model, inputs = sample(name)
    model = model.to(dtype)
    conversion = surgeon.convert(model, inputs.to(torch.device("cpu"), dtype), allow_depthwise=True)
    assert conversion.converted > 0
    assert conversion.equivalence.bit_equal, conversion.equivalence
    assert conversion.plan.ledger.balances
    assert all(site.reason for site in conversion.plan.sites if not site.converts)


@samples
def test_every_shaken_layer_equals_the_oracle_on_what_it_really_sees(name):
    model, inputs = sample(name)
    converted = surgeon.convert(model, inputs, allow_depthwise=True).model
    layers = shake_all(converted)
    worst = {}

    def watch(path):
        def hook(layer, args, output):
            error = oracle.relative_error(output, oracle.saconv(layer, args[0]))
            worst[path] = max(worst.get(path, 0.0), error)

        return hook

    for path, layer in layers.items():
        layer.register_forward_hook(watch(path))
    with preserved(converted):
        inputs.run(converted)
    assert set(worst) == set(layers)
    assert max(worst.values()) < 2e-5, worst


@samples
def test_training_step_reaches_every_new_parameter(name):
    model, inputs = sample(name)
    converted = surgeon.convert(model, inputs, allow_depthwise=True).model
    shake_all(converted)
    new = {id(p) for p in surgeon.new_parameters(converted)}
    assert new
    output = converted.train()(*inputs.args, **inputs.kwargs)
    sum(t.float().square().mean() for t in tensors(output) if t.is_floating_point()).backward()
    checked = 0
    for path, parameter in converted.named_parameters():
        if id(parameter) in new:
            assert parameter.grad is not None, path
            assert parameter.grad.isfinite().all(), path
            assert parameter.grad.any(), path
            checked += 1
    assert checked == len(new)


@samples
def test_restores_to_the_same_outputs(name, tmp_path):
    model, inputs = sample(name)
    conversion = surgeon.convert(model, inputs)
    shake_all(conversion.model)
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(sample(name)[0], tmp_path / "out")
    a, b = (tensors(inputs.run(m.eval())) for m in (conversion.model, restored))
    assert all(x.isfinite().all() for x in a if x.is_floating_point())
    assert all(torch.equal(x, y) for x, y in zip(a, b))
