"""``--help``: in sections, in 80 columns, with what MODEL can be."""

import pytest

from saconv_surgeon.cli import cli
from saconv_surgeon.cli.help_sections import SECTIONS
from tests.cli.running import run


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_fits_80_columns_and_every_option_is_in_a_section(command):
    shown = run(command, "--help", terminal_width=80).stdout
    assert max(map(len, shown.splitlines())) <= 80
    other = shown.partition("\nOther:\n")[2]
    assert other.split()[:2] == ["-h,", "--help"]
    assert other.count(" -") <= 2
    for parameter in cli.commands[command].params:
        if parameter.param_type_name == "option":
            assert parameter.section in SECTIONS[:-1], parameter.name


@pytest.mark.parametrize("command", ["convert", "profile", "diff", "fold", "inspect", "plan"])
def test_says_what_a_model_can_be(command):
    shown = run(command, "--help").stdout
    assert "timm:resnet50" in shown
    assert "torchvision:" in shown
    assert shown.index("Models:") < shown.index("Input:")


def test_sections_stand_in_their_order():
    shown = run("convert", "--help").stdout
    places = [shown.index(f"\n{section}:\n") for section in SECTIONS if f"\n{section}:\n" in shown]
    assert len(places) >= 8
    assert places == sorted(places)


def test_the_group_shows_the_forms_of_libraries():
    shown = run("--help", terminal_width=80).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "timm:" in shown
    assert "inspect timm:resnet50" in shown
