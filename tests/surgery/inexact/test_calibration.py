"""Layers fitted to what their convolutions gave, one after the other."""

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from benchmarks.images import figures
from sample_models import tiny_resnet
from tests.surgery.inexact.models import X, net, to_spconv


@pytest.mark.slow
def test_calibration_beats_projection_beats_chance_on_images_that_it_has_not_seen():
    model = tiny_resnet.build()
    batches = [figures(8, 96, seed)[0] for seed in range(4)]
    shares = []
    for init in ("random", "project", "calibrate"):
        found = to_spconv(model, batches[0], init=init, data=batches).explained
        shares.append(found.r2)
        assert found.init == init
        assert found.samples == (8 if init == "calibrate" else 32)
    assert found.calibrated_on == 24
    assert found.source == "batches of the data that were left out of the calibration"
    assert shares == sorted(shares)
    assert shares[2] > 0.6


def test_calibration_fits_behind_what_was_fitted_before():
    """The second layer is given what the first, which is not its convolution, really gives."""
    conversion = to_spconv(data=[X, X.flip(0)])  # fitted to the first batch, looked at with the second
    model, original = conversion.model.eval(), net()
    behind, before = (surgeon.SPConv2d.from_conv2d(original[3]).eval() for _ in range(2))
    with torch.no_grad():
        behind.fit([model[:3](X)], [original(X)])
        before.fit([original[:3](X)], [original(X)])
    assert torch.equal(model[3].gwc.weight, behind.gwc.weight)
    assert not torch.allclose(model[3].gwc.weight, before.gwc.weight, rtol=0.01)


class Recurrent(nn.Module):
    """One convolution, called three times on its own output."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.conv(x))
        return x


def test_layers_that_are_called_several_times():
    model = Recurrent().eval()
    shares = [to_spconv(model, init=i, data=[X, X.flip(0)]).explained.r2 for i in ("random", "calibrate")]
    assert shares[1] > shares[0]


class Catching(nn.Module):
    """Catches whatever its parts raise."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        try:
            return self.conv(x)
        except Exception:
            return x


def test_a_model_that_catches_everything_does_not_stop_the_calibration():
    found = to_spconv(Catching().eval(), data=[X, X.flip(0)]).explained
    assert found.layers[0].r2 > 0.2


class Skips(nn.Module):
    """Keeps maps in an attribute while it runs."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.skips = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), []

    def forward(self, x):
        self.skips.append(x)
        y = self.up(torch.relu(self.down(x)))
        return y + self.skips.pop(0)


def test_a_run_that_ends_early_leaves_nothing_in_the_users_model():
    model = Skips().eval()
    wanted = model(X)
    to_spconv(model, data=[X, X.flip(0)])
    assert model.skips == []
    assert torch.equal(model(X), wanted)
