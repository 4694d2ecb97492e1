"""What the README and the docs say is true: commands and files exist, code runs."""

import re
from pathlib import Path

import pytest

from saconv_surgeon.cli import cli
from saconv_surgeon.records.safety import SAFETY_RULES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_is_in_the_readme_and_has_help():
    for name, command in cli.commands.items():
        assert f"`saconv-surgeon {name}" in README
        assert command.help
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.param_type_name == "argument", (name, parameter.name)


def test_every_option_in_the_readme_exists():
    known = {
        option for command in cli.commands.values() for p in command.params for option in (*p.opts, *p.secondary_opts)
    }
    for text in (
        README,
        *(
            (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
            for name in (
                "commands",
                "library",
                "planning",
                "targets",
                "reports",
                "folding",
                "training",
                "safety",
                "sharing",
            )
        ),
    ):
        assert set(re.findall(r"(--[a-z][a-z-]+)", text)) <= known | {"--help"}


@pytest.mark.parametrize(
    ("file", "least"),
    [
        ("README.md", 2),
        ("docs/library.md", 4),
        ("docs/targets.md", 2),
        ("docs/training.md", 5),
        ("docs/planning.md", 1),
        ("docs/sharing.md", 1),
        ("docs/hugging_face.md", 2),
    ],
)
def test_python_blocks_run(file, least, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= least
    scope = {}
    for block in blocks:
        code = compile(block, file, "exec")
        if "ultralytics" not in block:  # needs the library and a data set; tests/integrations runs such code
            exec(code, scope)


def test_make_targets_in_the_readme_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", README)) <= set(targets)


def test_every_rule_of_safety_is_explained():
    text = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)) == set(SAFETY_RULES)


def test_links_lead_somewhere():
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), (file, target)


def test_the_project_speaks_of_itself_alone():
    """No path of a machine in what is shipped."""
    for file in [*ROOT.glob("*.md"), *(ROOT / "saconv_surgeon").rglob("*.py")]:
        assert not re.search(r"/(home|root|work|Users)/", file.read_text(encoding="utf-8")), file
