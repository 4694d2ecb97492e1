"""Saved conversions, restored."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import nets, oracle
from tests.saving.conversions import Shared, converted


def test_restored_model_gives_the_same_outputs_after_training(tmp_path):
    conversion = converted()
    for layer in (conversion.model[0], conversion.model[2]):
        oracle.shake(layer)
    surgeon.save(conversion, tmp_path / "out")
    fresh = nets.chain()
    state = {name: value.clone() for name, value in fresh.state_dict().items()}
    restored = surgeon.restore(fresh, tmp_path / "out")
    assert torch.equal(restored.eval()(nets.X), conversion.model.eval()(nets.X))
    assert type(fresh[0]) is nn.Conv2d
    assert all(torch.equal(v, state[k]) for k, v in fresh.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_comes_back(tmp_path, dtype):
    model = nets.chain().to(dtype)
    conversion = converted(model, nets.X.to(dtype))
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(nets.chain(), tmp_path / "out")
    assert restored[0].weight.dtype == dtype
    assert restored[0].weight_gamma.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(restored.eval()(nets.X.to(dtype)), model.eval()(nets.X.to(dtype)))


def test_channels_last_comes_back(tmp_path):
    model = nets.chain().to(memory_format=torch.channels_last)
    x = nets.X.to(memory_format=torch.channels_last)
    surgeon.save(converted(model, x), tmp_path / "out")
    restored = surgeon.restore(nets.chain(), tmp_path / "out")
    assert restored[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(restored.eval()(x), model.eval()(x))


def test_shared_tensors_survive(tmp_path):
    conversion = converted(Shared())
    oracle.shake(conversion.model.a)
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(Shared(), tmp_path / "out")
    assert restored.a is restored.b
    assert restored.x.weight is restored.y.weight
    assert torch.equal(restored(nets.X), conversion.model(nets.X))


def test_new_process_restores_to_the_same_outputs(tmp_path):
    from sample_models import tiny_resnet

    x = tiny_resnet.example_inputs()
    conversion = surgeon.convert(tiny_resnet.build(), x)
    surgeon.save(conversion, tmp_path / "out")
    torch.save(conversion.model.eval()(x), tmp_path / "wanted.pt")
    script = f"""
        import torch, saconv_surgeon
        from sample_models import tiny_resnet
        torch.set_num_threads(1)
        model = saconv_surgeon.restore(tiny_resnet.build(), {str(tmp_path / "out")!r}).eval()
        assert torch.equal(model(tiny_resnet.example_inputs()), torch.load({str(tmp_path / "wanted.pt")!r}))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


def damaged(folder, change):
    change(folder)
    return surgeon.restore(nets.chain(), folder)


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def mix(folder):
    other = folder.with_name("other")
    conversion = converted()
    oracle.shake(conversion.model[0])
    surgeon.save(conversion, other)
    (other / "model.safetensors").replace(folder / "model.safetensors")


def edit(**change):
    def apply(folder):
        plan = json.loads((folder / "plan.json").read_text())
        (folder / "plan.json").write_text(json.dumps({**plan, **change}))

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "was changed, damaged, or comes from another conversion"),
        (mix, "was changed, damaged, or comes from another conversion"),
        (lambda f: (f / "plan.json").unlink(), "there is no plan.json"),
        (lambda f: (f / "model.safetensors").unlink(), "is incomplete: model.safetensors is missing"),
        (lambda f: (f / "plan.json").write_text("{"), "not readable as JSON"),
        (lambda f: (f / "plan.json").write_text("[]"), "is not a plan"),
        (edit(schema="saconv-surgeon/plan/9"), "which this version does not read"),
        (edit(sites=[{"path": 3}]), r"is not a plan: Plan.sites\[0\].path: expected str, found '3'"),
        (edit(files=None), "belongs to no saved weights"),
        (edit(target="magic"), "no conversion target 'magic'"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, change, message):
    surgeon.save(converted(), tmp_path / "out")
    with pytest.raises(surgeon.SurgeonError, match=message):
        damaged(tmp_path / "out", change)


def test_another_architecture_is_refused(tmp_path):
    surgeon.save(converted(), tmp_path / "out")
    wider = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    with pytest.raises(surgeon.ArtefactError, match="do not fit Sequential"):
        surgeon.restore(wider, tmp_path / "out")


@pytest.mark.parametrize("parts", ["contexts", "branches"])
def test_layers_without_some_parts_come_back_without_them(tmp_path, parts):
    conversion = surgeon.convert(nets.chain(), nets.X, options={"parts": parts})
    for layer in (conversion.model[0], conversion.model[2]):
        oracle.shake(layer)
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(nets.chain(), tmp_path / "out").eval()
    assert {m.parts for m in restored if isinstance(m, surgeon.SAConv2d)} == {parts}
    assert torch.equal(restored(nets.X), conversion.model.eval()(nets.X))
