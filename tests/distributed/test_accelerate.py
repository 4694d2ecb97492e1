"""Accelerate with converted models: two real processes against one, and its checkpoints."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import saconv_surgeon as surgeon
from tests.distributed.processes import together
from tests.distributed.test_two_processes import X, Y, build, close, converted

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
accelerate = pytest.importorskip("accelerate")


def trained(accelerator, model, steps, folder=None, resume=None, save_after=None):
    """Each process sees its half of the batch; one process accumulates both halves."""
    optimizer = torch.optim.AdamW(surgeon.parameter_groups(model, lr=1e-3))
    loader = DataLoader(TensorDataset(X, Y), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    if resume is not None:
        accelerator.load_state(resume)
    done = 0
    while done < steps:
        for images, labels in loader:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(images), labels))
                optimizer.step()
                optimizer.zero_grad()
        done += 1
        if done == save_after:
            accelerator.save_state(folder)
    return model


def on_a_rank(rank, folder):
    accelerator = accelerate.Accelerator(cpu=True)
    model = trained(accelerator, converted(), 3)
    accelerator.save_model(model, folder, safe_serialization=True)
    accelerator.wait_for_everyone()
    return accelerator.num_processes, accelerator.unwrap_model(model).state_dict()


def alone():
    return accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)


def test_two_processes_train_as_one_does(tmp_path):
    wanted = trained(alone(), converted(), 3).state_dict()
    for processes, state in together(on_a_rank, str(tmp_path / "model")):
        assert processes == 2
        close(state, wanted)
    moved = [key for key, value in converted().state_dict().items() if not torch.equal(value, wanted[key])]
    assert {"0.switch.weight", "0.weight_diff", "2.pre_context.weight"} <= set(moved)
    saved = surgeon.apply(build().eval(), surgeon.convert(build().eval(), X).plan)
    accelerate.load_checkpoint_in_model(saved, tmp_path / "model")
    close(saved.state_dict(), wanted)


def test_a_state_that_was_saved_is_resumed_to_the_bit(tmp_path):
    whole = trained(alone(), converted(), 4, tmp_path / "state", save_after=2)
    resumed = trained(alone(), converted(), 2, resume=tmp_path / "state")
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    fresh = trained(alone(), converted(), 2)
    assert not torch.equal(whole[0].weight_diff, fresh[0].weight_diff)
