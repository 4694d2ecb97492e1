"""A callback of PyTorch Lightning that converts in a training."""

import csv
import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]
lightning = pytest.importorskip("lightning.pytorch")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402

from saconv_surgeon.integrations.lightning import Surgery, load  # noqa: E402

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Module(lightning.LightningModule):
    def __init__(self, scheduler="cosine"):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
        self.head = nn.Linear(4, 2)
        self.scheduler = scheduler

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.cross_entropy(self.head(self.model(x).mean((2, 3))), y)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)
        kinds = {
            "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4),
            "lambda": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
            "sequential": lambda: torch.optim.lr_scheduler.SequentialLR(
                optimizer,
                [
                    torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2),
                    torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
                ],
                milestones=[2],
            ),
        }
        return {"optimizer": optimizer, "lr_scheduler": kinds[self.scheduler]()}


def loader():
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(16, 3, 16, 16, generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, torch.arange(16) % 2), batch_size=4)


def trainer(folder, callback, epochs=4, logger=False):
    return lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback, ModelCheckpoint(folder, save_top_k=-1, filename="{epoch}")],
        logger=logger,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def layers(module):
    return [m for m in module.modules() if isinstance(m, surgeon.SAConv2d)]


def assert_same(found, wanted):
    a, b = found.state_dict(), wanted.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("scheduler", ["cosine", "lambda", "sequential"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_training_is_converted_and_resumed_to_the_bit(tmp_path, epoch, scheduler):
    module, callback = Module(scheduler), Surgery(X, epoch=epoch)
    fit = trainer(tmp_path / "a", callback)
    fit.fit(module, loader())
    assert len(layers(module)) == 2
    assert callback.conversion.equivalence.bit_equal
    groups = fit.optimizers[0].param_groups
    assert [group.get("name") for group in groups] == [None, "new parts"]
    assert groups[1]["lr"] == pytest.approx(3 * groups[0]["lr"])
    assert groups[1]["weight_decay"] == 0
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in surgeon.new_parameters(module)}
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    assert all(p in fit.optimizers[0].state for group in groups for p in group["params"])

    for start in (1, 2):
        again, resumed = Module(scheduler), Surgery(X, epoch=epoch)
        trainer(tmp_path / f"b{start}", resumed).fit(again, loader(), ckpt_path=tmp_path / "a" / f"epoch={start}.ckpt")
        assert_same(again, module)


def test_kernels_keep_their_momentum(tmp_path):
    seen = {}

    class Looks(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            kernel = pl_module.model[0].weight
            seen[trainer.current_epoch] = trainer.optimizers[0].state[kernel]["step"].item()

    module = Module()
    fit = trainer(tmp_path, Surgery(X, epoch=1))
    fit.callbacks.append(Looks())
    fit.fit(module, loader())
    assert list(seen.values()) == [4, 8, 12, 16]


def test_the_checkpoint_has_plan_and_proof_and_loads_into_a_fresh_module(tmp_path):
    module = Module()
    trainer(tmp_path, Surgery(X, include=["0"])).fit(module, loader())
    file = tmp_path / "epoch=3.ckpt"
    entry = torch.load(file, weights_only=True)["saconv_surgeon"]
    assert entry["equivalence"]["bit_equal"]
    assert [s["path"] for s in entry["plan"]["sites"] if s["decision"] == "convert"] == ["0"]
    json.dumps(entry)
    assert_same(load(Module(), file), module)
    trainer(tmp_path / "plain", Surgery(X, epoch=99), epochs=1).fit(Module(), loader())
    with pytest.raises(surgeon.ArtefactError, match="no record of a conversion"):
        load(Module(), tmp_path / "plain" / "epoch=0.ckpt")


def test_figures_go_to_the_logger(tmp_path):
    logger = CSVLogger(tmp_path, name="log")
    trainer(tmp_path, Surgery(X, epoch=1), logger=logger).fit(Module(), loader())
    rows = list(csv.DictReader((tmp_path / "log" / "version_0" / "metrics.csv").open()))
    figures = [float(row["saconv/0/weight_diff"]) for row in rows if row.get("saconv/0/weight_diff")]
    assert len(figures) == 3
    assert figures[-1] > 0
    assert {"saconv/0/switch_mean", "saconv/3/moved"} <= rows[0].keys()


def test_mistakes_are_told(tmp_path):
    with pytest.raises(surgeon.UsageError, match=r"no part 'net' to convert; give network=…, one of: model, head"):
        trainer(tmp_path, Surgery(X, network="net")).fit(Module(), loader())
    with pytest.raises(surgeon.UsageError, match="give Surgery example inputs"):
        trainer(tmp_path, Surgery()).fit(Module(), loader())
