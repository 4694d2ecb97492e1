"""The hook and the layer for mmengine, with its real runner."""

import json

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("default")]
pytest.importorskip("mmengine")
from mmengine.hooks import Hook  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.registry import MODELS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from saconv_surgeon.integrations.mmengine import SurgeryHook  # noqa: E402
from saconv_surgeon.records import to_dict  # noqa: E402

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, inputs, labels, mode="tensor"):
        scores = self.head(self.backbone(inputs).mean((2, 3)))
        return {"loss": nn.functional.cross_entropy(scores, labels)} if mode == "loss" else scores


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1"
    )  # mmengine 0.10 cannot load its own checkpoints otherwise
    conversion = surgeon.convert(Net().backbone.eval(), X)
    (tmp_path / "plan.json").write_text(json.dumps(to_dict(conversion.plan)))
    return tmp_path / "plan.json"


def loader():
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(16, 3, 16, 16, generator=generator)
    data = torch.utils.data.TensorDataset(images, torch.arange(16) % 2)
    return torch.utils.data.DataLoader(data, batch_size=4)


def runner(folder, hooks, epochs=4, **options):
    return Runner(
        model=Net(),
        work_dir=str(folder),
        train_dataloader=loader(),
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01, "weight_decay": 0.1}},
        param_scheduler=[{"type": "CosineAnnealingLR", "T_max": 8, "by_epoch": True}],
        custom_hooks=hooks,
        default_scope="mmengine",
        log_level="ERROR",
        experiment_name=folder.name,
        **options,
    )


def layers(model):
    return [m for m in model.modules() if isinstance(m, surgeon.SAConv2d)]


def assert_same(found, wanted):
    a, b = found.state_dict(), wanted.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


class Looks(Hook):
    """What the first iteration sees."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            with torch.no_grad():
                model = runner.model.eval()
                self.seen = model(X, torch.tensor([0, 1]))
                model.train()


def test_a_training_is_converted_and_resumed_to_the_bit(tmp_path, plan):
    looks = Looks()
    first = runner(tmp_path / "a", [SurgeryHook(plan), looks])
    first.train()
    assert len(layers(first.model)) == 2
    with torch.no_grad():
        assert torch.equal(looks.seen, Net().eval()(X, torch.tensor([0, 1])))
    groups = first.optim_wrapper.optimizer.param_groups
    assert [group.get("name") for group in groups] == [None, "new parts"]
    assert groups[1]["lr"] == pytest.approx(3 * groups[0]["lr"])
    assert {id(p) for p in groups[1]["params"]} == {id(p) for p in surgeon.new_parameters(first.model)}
    again = runner(tmp_path / "b", [SurgeryHook(plan)], resume=True, load_from=str(tmp_path / "a" / "epoch_2.pth"))
    again.train()
    assert_same(again.model, first.model)


def test_pretrained_weights_are_converted_after_they_were_loaded(tmp_path, plan):
    torch.manual_seed(9)
    weights = {key: torch.rand_like(v) if v.is_floating_point() else v for key, v in Net().state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "w.pth")
    looks = Looks()
    made = runner(tmp_path / "a", [SurgeryHook(plan), looks], epochs=1, load_from=str(tmp_path / "w.pth"))
    made.train()
    plain = Net()
    plain.load_state_dict(weights)
    with torch.no_grad():
        assert torch.equal(looks.seen, plain.eval()(X, torch.tensor([0, 1])))


def test_a_checkpoint_is_loaded_for_another_training(tmp_path, plan):
    first = runner(tmp_path / "a", [SurgeryHook(plan)])
    first.train()
    other = runner(tmp_path / "b", [SurgeryHook(plan)], load_from=str(tmp_path / "a" / "epoch_4.pth"))
    other.load_or_resume()
    assert_same(other.model, first.model)


def test_a_configuration_names_the_layer():
    built = MODELS.build({"type": "SACSurgeon", "in_channels": 3, "out_channels": 4, "kernel_size": 3, "padding": 1})
    assert type(built) is surgeon.SAConv2d
    parts = MODELS.build(
        {"type": "SACSurgeon", "in_channels": 3, "out_channels": 4, "kernel_size": 3, "parts": "contexts"}
    )
    assert parts.parts == "contexts"


def test_mistakes_are_told(tmp_path, plan):
    with pytest.raises(
        surgeon.UsageError, match=r"has no part 'neck' to convert; give network=…, one of: .*backbone, head"
    ):
        runner(tmp_path / "a", [SurgeryHook(plan, network="neck")]).train()
