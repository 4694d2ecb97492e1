"""The circumstances in a report: present, plain, and true."""

import json
import os

import torch

import saconv_surgeon as surgeon
from saconv_surgeon.profiling import environment as module
from saconv_surgeon.profiling.environment import conditions, environment
from tests import nets


def test_conditions_on_a_cpu():
    found = conditions(torch.device("cpu"))
    json.dumps(found)
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] == os.cpu_count()
    assert found["device_name"]
    assert found["float32_matmul_precision"] == "highest"


def test_a_machine_that_tells_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "none")
    found = conditions(torch.device("cpu"))
    assert found["clock_mhz"] is None
    assert found["device_name"]


def test_cpu_info_is_of_the_first_processor(monkeypatch, tmp_path):
    (tmp_path / "info").write_text("model name\t: A\ncpu MHz\t\t: 2100.5\n\nmodel name\t: B\ncpu MHz\t\t: 1.0\n")
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "info")
    found = conditions(torch.device("cpu"))
    assert (found["device_name"], found["clock_mhz"]) == ("A", 2100.5)


def test_every_profile_has_them():
    found = surgeon.profile(nets.chain(), torch.randn(1, 3, 16, 16), timing=None)
    assert found.environment["torch"] == torch.__version__
    assert environment()["rich"]


def test_parameters_by_hand():
    plain = nets.chain()
    found = surgeon.profile(plain, torch.randn(1, 3, 16, 16), timing=None)
    assert found.parameters == sum(p.numel() for p in plain.parameters())
    assert (found.frozen_parameters, found.shared_parameters) == (0, 0)
    shared = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3))
    shared.append(shared[0])
    shared[0].bias.requires_grad_(False)
    shared.register_buffer("table", torch.zeros(7, dtype=torch.float64))
    found = surgeon.profile(shared, torch.randn(1, 3, 4, 4), timing=None)
    assert (found.parameters, found.trainable_parameters, found.frozen_parameters) == (18, 15, 3)
    assert (found.shared_parameters, found.parameter_bytes) == (12, 72)
    assert (found.buffers, found.buffer_bytes) == (3 + 3 + 1 + 7, 4 * 6 + 8 + 8 * 7)
