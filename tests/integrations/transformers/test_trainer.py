"""``Trainer`` and accelerate with converted models."""

import pytest
import torch

import saconv_surgeon as surgeon

pytest.importorskip("transformers", minversion="4.50")
pytest.importorskip("accelerate")
from transformers import AutoModelForImageClassification as Auto
from transformers import Trainer, TrainingArguments

from saconv_surgeon.integrations.transformers.loading import BEFORE_5
from tests.integrations.transformers.test_from_pretrained import X, assert_same, converted, resnet


def trained(model, folder, resume=None):
    generator = torch.Generator().manual_seed(0)
    data = [{"pixel_values": torch.randn(3, 32, 32, generator=generator), "labels": i % 2} for i in range(16)]
    asked = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        save_strategy="steps",
        save_steps=3,
        max_steps=6,
        report_to=[],
        seed=1,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=asked, train_dataset=data)
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model


def test_a_training_is_resumed_and_its_checkpoints_load(tmp_path):
    whole = trained(surgeon.convert(resnet(), X).model, tmp_path / "a")
    checkpoint = tmp_path / "a" / "checkpoint-3"
    again = trained(surgeon.convert(resnet(), X).model, tmp_path / "b", resume=str(checkpoint))
    assert_same(again, whole)
    assert_same(Auto.from_pretrained(tmp_path / "a" / "checkpoint-6"), whole)
    loaded = trained(Auto.from_pretrained(checkpoint), tmp_path / "c", resume=str(checkpoint))
    assert_same(loaded, whole)


@pytest.mark.filterwarnings("ignore:Current model requires")
@pytest.mark.parametrize(
    "places",
    [
        "auto",
        {"resnet": "cpu", "classifier": "cpu"},
        {"resnet": "cpu", "classifier": "disk"},
        {"resnet.embedder": "cpu", "resnet.encoder": "disk", "resnet.pooler": "cpu", "classifier": "cpu"},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_device_maps(tmp_path, places, dtype):
    if BEFORE_5 and isinstance(places, dict) and places.get("resnet.encoder") == "disk":
        pytest.skip("transformers 4 does not bring buffers back from the disk, and says so")
    model = converted()
    model.save_pretrained(tmp_path)
    found = Auto.from_pretrained(tmp_path, device_map=places, dtype=dtype, offload_folder=str(tmp_path / "off"))
    with torch.no_grad():
        wanted = model.to(dtype)(X.to(dtype)).logits
        torch.testing.assert_close(
            found(X.to(dtype)).logits, wanted, rtol=0, atol=0 if dtype is torch.float32 else 0.05
        )
