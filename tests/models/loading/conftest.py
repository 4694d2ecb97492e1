"""Fixtures that several test files here share."""

import sys
import textwrap

import pytest

from tests.models.loading.written_files import SOURCE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "neighbour.py").write_text("WIDTH = 3\n")
    (tmp_path / "broken_import.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "syntax.py").write_text("def build(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("nets_of_mine", "neighbour", "broken_import"):
        sys.modules.pop(name, None)
