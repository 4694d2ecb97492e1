"""Fixtures that several test files here share."""

import pytest
from click.testing import CliRunner

from saconv_surgeon.cli import cli
from tests.models.hostile_files import NET


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hostile_net.py").write_text(NET)
    return tmp_path


@pytest.fixture
def saved(place):
    arguments = ["convert", "hostile_net.py:build", "-o", "saved", "--no-latency", "-q"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return place / "saved" / "plan.json"
