"""Energy, against a machine of known watts, and counters as the system has them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.profiling.energy import counters, measure_energy
from saconv_surgeon.profiling.energy.counters import EnergyCounter, NoCounterError
from saconv_surgeon.records import Timing

CPU = torch.device("cpu")
BATCH = 4
X = torch.zeros(BATCH, 3, 8, 8)
AT_REST = 10.0


class Machine:
    """Draws ten watts at rest; a run takes a tenth of a second, in which it draws what the model says."""

    def __init__(self, monkeypatch):
        self.time = self.joules = 0.0
        monkeypatch.setattr(measure_energy, "CLOCK", SimpleNamespace(now=lambda: self.time, sleep=self.sleep))

    def sleep(self, seconds, watts=0.0):
        self.time += seconds
        self.joules += seconds * (AT_REST + watts)

    @property
    def counter(self):
        return EnergyCounter("a test", lambda: (self.joules,))


class Draws(nn.Module):
    def __init__(self, machine, watts, seconds=0.1):
        super().__init__()
        self.work = lambda: machine.sleep(seconds, watts)

    def forward(self, x):
        self.work()
        return x


def measured(machine, *models):
    return measure_energy.measure_energy(models, Inputs.of(X), CPU, Timing(), lambda done: None, machine.counter)


def test_joules_per_sample_without_what_is_drawn_at_rest(monkeypatch):
    """20 W for 0.1 s are 2 J a run, half a joule for each of four samples."""
    machine = Machine(monkeypatch)
    found = measured(machine, Draws(machine, 20.0))
    (energy,) = found.energies
    assert energy.joules_per_sample == pytest.approx(0.5)
    assert (energy.idle_w, energy.w, energy.n, energy.batch) == (pytest.approx(10), pytest.approx(30), 10, BATCH)
    assert found.ratio is None


@pytest.mark.parametrize(("watts", "verdict"), [(40.0, "more"), (10.0, "less"), (20.0, "same")])
def test_the_ratio_has_a_verdict(monkeypatch, watts, verdict):
    machine = Machine(monkeypatch)
    found = measured(machine, Draws(machine, 20.0), Draws(machine, watts))
    assert found.ratio.median == pytest.approx(watts / 20)
    assert found.ratio.verdict == verdict
    assert found.ratio.n == 10


def test_models_that_draw_nothing_have_no_figure(monkeypatch):
    machine = Machine(monkeypatch)
    found = measured(machine, Draws(machine, 0.0))
    assert found.energies == ()
    assert "no more than the machine at rest" in found.note


def rapl(root, values, most=1000):
    for i, value in enumerate(values):
        for name in (f"intel-rapl:{i}", f"intel-rapl:{i}:0"):  # the second is a part of the first
            (root / name).mkdir(exist_ok=True)
            (root / name / "energy_uj").write_text(str(int(value * 1e6)))
            (root / name / "max_energy_range_uj").write_text(str(int(most * 1e6)))


def test_rapl_adds_up_packages_and_survives_the_wrap(tmp_path):
    rapl(tmp_path, [990.0, 5.0])
    counter = counters._rapl(tmp_path)
    assert "2 processor packages" in counter.source
    before = counter.read()
    rapl(tmp_path, [20.0, 8.0])
    assert counter.between(before, counter.read()) == pytest.approx(30.0 + 3.0)


def test_without_a_counter_the_reason_is_said(tmp_path, monkeypatch):
    with pytest.raises(NoCounterError, match="virtual machines"):
        counters._rapl(tmp_path)
    monkeypatch.setattr(counters, "POWERCAP", tmp_path)
    found = surgeon.profile(nn.Conv2d(3, 4, 3), X, timing=Timing(budget_s=0.1, energy=True))
    assert found.energy is None
    assert "RAPL" in found.energy_note


@pytest.mark.gpu
def test_energy_of_a_gpu():
    pytest.importorskip("pynvml")
    model = nn.Conv2d(64, 64, 3).cuda()
    found = surgeon.profile(model, torch.randn(8, 64, 64, 64, device="cuda"), timing=Timing(budget_s=0.1, energy=True))
    assert found.energy_note is None
    assert found.energy.joules_per_sample > 0
