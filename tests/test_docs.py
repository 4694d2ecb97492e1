"""What the README and the docs say is true: commands and files exist, code runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saconv_surgeon.cli import cli
from saconv_surgeon.convs.targets.known_targets import TARGETS
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
                "index",
                "tutorial",
                "yolo",
                "timm",
                "ci",
                "compress",
                "explanation",
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
        ("docs/compress.md", 3),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_python_blocks_run(file, least, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(file)
    assert len(blocks) >= least
    run(
        file, [block for block in blocks if "ultralytics" not in block]
    )  # that needs a data set; tests/integrations runs it


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("file", "libraries"),
    [
        ("docs/hugging_face.md", ("transformers", "timm", "segmentation_models_pytorch")),
        ("docs/lightning.md", ("lightning.pytorch",)),
        ("docs/mmengine.md", ("mmengine",)),
        ("docs/sweeps.md", ("ray.tune",)),
        ("docs/distributed.md", ("accelerate",)),
    ],
)
@pytest.mark.filterwarnings("default", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_python_blocks_of_workflows_run(file, libraries, tmp_path, monkeypatch):
    """In a process of their own: they start process groups, and change what other libraries do."""
    for library in libraries:
        pytest.importorskip(library)
    (tmp_path / "page.py").write_text("\n".join(blocks_of(file)))
    monkeypatch.syspath_prepend(ROOT)
    environment = os.environ | RANK | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]


RANK = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


def blocks_of(file):
    return re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def run(file, blocks):
    scope = {}
    for block in blocks:
        exec(compile(block, file, "exec"), scope)


def test_the_table_of_random_layers_is_what_was_recorded():
    (file,) = (ROOT / "benchmarks/results").glob("random-layers-*.json")
    recorded = json.loads(file.read_text())
    counts = recorded.get("result", recorded)["counts"]
    table = (ROOT / "docs/targets.md").read_text(encoding="utf-8").partition("## Random layers")[2]
    stated = [int(n.replace(",", "")) for n in re.findall(r"\| ([\d,]+) \|$", table, re.MULTILINE)]
    assert stated == [*counts.values(), 0]
    assert not [name for name in counts if name.startswith("WRONG")]


def test_every_new_target_has_its_page_and_every_target_its_row():
    table = (ROOT / "docs/targets.md").read_text(encoding="utf-8")
    for name in list(TARGETS):
        assert re.search(rf"^\| \[?`{name}`", table, re.MULTILINE), name
        if name not in ("saconv", "saconv-deform", "aws", "spconv"):
            assert f"(targets/{name}.md)" in table
            assert f"`--to {name}`" in (ROOT / f"docs/targets/{name}.md").read_text(encoding="utf-8")


def test_the_table_of_targets_is_what_was_recorded():
    (file,) = (ROOT / "benchmarks/results").glob("targets-*.json")
    text = (ROOT / "docs/targets.md").read_text(encoding="utf-8")
    for target, found in json.loads(file.read_text())["summary"].items():
        assert not found["errors"]
        if found["fits"]:
            counts = f"{found['fits']} of {found['models']} | {found['layers']:,} | {found['bit_equal']}"
            assert (
                f"| `{target}` | {counts} | {found['worst_fold']:.1e} | {found['folded_plain']} | {found['same_macs']} |"
                in text
            )


def test_the_sentence_about_dcnv2_is_what_was_recorded():
    (file,) = (ROOT / "benchmarks/results").glob("only-dcnv2-*.json")
    found = json.loads(file.read_text())["summary"]["dcnv2"]
    assert not found["errors"]
    assert found["trained"] == found["fits"] == found["models"]
    text = (ROOT / "docs/targets.md").read_text(encoding="utf-8")
    assert f"fits all {found['fits']} models in the same run: {found['layers']:,} layers" in text
    assert f"at most {found['worst_start']:.1e} from" in text


def test_the_table_of_speeds_is_what_was_recorded():
    (file,) = (ROOT / "benchmarks/results").glob("target-speed-*.json")
    text = (ROOT / "docs/targets.md").read_text(encoding="utf-8")
    means = json.loads(file.read_text())["means"]
    for kind in ("dense", "depthwise"):
        for target, folded in means[f"{kind}, folded"].items():
            assert f"| `{target}`, {kind} | ×{means[f'{kind}, training step'][target]:.2f} | ×{folded:.2f} |" in text


def test_make_targets_in_the_readme_exist():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", README)) <= set(targets)


def test_every_rule_of_safety_is_explained():
    text = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)) == set(SAFETY_RULES)


def test_links_lead_somewhere():
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", file.read_text(encoding="utf-8")):
            made = any(target.startswith(each) for each in ("notebooks/", "reference/", "gallery.md"))
            assert made or (file.parent / target).exists(), (file, target)  # tests/test_site.py looks at those


def test_the_project_speaks_of_itself_alone():
    """No path of a machine in what is shipped."""
    for file in [*ROOT.glob("*.md"), *(ROOT / "saconv_surgeon").rglob("*.py")]:
        assert not re.search(r"/(home|root|work|Users)/", file.read_text(encoding="utf-8")), file
