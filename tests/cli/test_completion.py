"""Completion in a shell."""

import pytest
from click.shell_completion import BashComplete

from saconv_surgeon.cli import cli


@pytest.mark.parametrize(
    ("typed", "incomplete", "expected"),
    [
        (["convert", "m.py:build", "--to"], "sac", {"saconv", "saconv-deform"}),
        (["convert", "m.py:build", "--to"], "det", {"detectors"}),
        (["plan", "m.py:build", "--to"], "saconv,aw", {"saconv,aws"}),
        (["convert", "m.py:build", "--mode"], "t", {"train"}),
        ([], "pro", {"profile"}),
    ],
)
def test_values_are_completed(typed, incomplete, expected):
    found = BashComplete(cli, {}, "saconv-surgeon", "_SACONV_SURGEON_COMPLETE").get_completions(typed, incomplete)
    assert {item.value for item in found} == expected
