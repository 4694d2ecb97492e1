"""Saving and restoring: exact, atomic, and suspicious of what it reads."""

import errno
import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from tests import nets, oracle


def converted(model=None, x=nets.X):
    return surgeon.convert(nets.chain() if model is None else model, x)


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


def test_folder_holds_the_record(tmp_path):
    surgeon.save(converted(), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.safetensors", "plan.json", "report.json"]
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["schema"] == "saconv-surgeon/plan/1"
    assert plan["target"] == "saconv"
    assert plan["torch_version"] == torch.__version__
    assert [site["decision"] for site in plan["sites"]] == ["convert", "convert"]
    assert len(plan["base"]["fingerprint"]) == 64
    assert plan["equivalence"]["bit_equal"] is True
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["schema"], report["converted"], report["refused"]) == ("saconv-surgeon/conversion/1", 2, 0)


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
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b = self.a
            self.x, self.y = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
            self.y.weight = self.x.weight

        def forward(self, x):
            return self.y(self.x(self.b(self.a(x))))

    conversion = converted(Shared())
    oracle.shake(conversion.model.a)
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(Shared(), tmp_path / "out")
    assert restored.a is restored.b
    assert restored.x.weight is restored.y.weight
    assert torch.equal(restored(nets.X), conversion.model(nets.X))


def test_pickled_module(tmp_path):
    conversion = converted()
    surgeon.save(conversion, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded.eval()(nets.X), conversion.model.eval()(nets.X))


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


def test_conversion_that_is_not_equal_is_not_saved_unless_forced(tmp_path):
    class Looks(nets.OneConv):
        def forward(self, x):
            return super().forward(x) + (type(self.conv) is nn.Conv2d)

    conversion = converted(Looks())
    with pytest.raises(surgeon.NotEquivalentError):
        surgeon.save(conversion, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    surgeon.save(conversion, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "plan.json").exists()


@pytest.mark.parametrize("name", ["out", "model.pt"])
def test_output_that_exists_is_asked_about(tmp_path, name):
    surgeon.save(converted(), tmp_path / name)
    with pytest.raises(surgeon.UsageError, match="--overwrite"):
        surgeon.save(converted(), tmp_path / name)
    surgeon.save(converted(), tmp_path / name, overwrite=True)


def test_folder_of_others_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(surgeon.UsageError, match="a folder with other files in it"):
        surgeon.save(converted(), tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwriting_keeps_other_files(tmp_path):
    surgeon.save(converted(), tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    surgeon.save(converted(), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "message"),
    [("model.onnx", "cannot save to"), ("model.pt2", "give example_inputs"), ("file", "is a file")],
)
def test_outputs_of_the_wrong_kind(tmp_path, path, message):
    (tmp_path / "file").write_text("x")
    with pytest.raises(surgeon.UsageError, match=message):
        surgeon.save(converted(), tmp_path / path)


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["out", "deep/er/out", "model.pt"])
@pytest.mark.parametrize("before", [False, True])
def test_full_disk_and_interruption_leave_what_was_there(tmp_path, monkeypatch, error, name, before):
    target = tmp_path / name
    if before:
        surgeon.save(converted(), target)
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("saconv_surgeon.saving.conversion_folder.write_json", fail)
    monkeypatch.setattr(torch, "save", fail)
    expected = surgeon.ModelError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        surgeon.save(converted(), target, overwrite=True)
    if isinstance(error, OSError):
        assert "the disk is full" in str(raised.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept
    if not before:
        assert not any(tmp_path.iterdir())


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


def test_weights_file_holds_data_only(tmp_path):
    """No pickle anywhere in the folder."""
    surgeon.save(converted(), tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        head = file.read_bytes()[:2]
        assert head not in (b"PK", b"\x80\x02", b"\x80\x04")
