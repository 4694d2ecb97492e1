"""The table of versions says what the tests said. Oracle: outcomes written by hand, and files that pytest itself writes."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks.versions import environments, measure, table
from benchmarks.versions.areas import AREAS, Outcome, by_area, counts, outcomes
from benchmarks.versions.environments import ENVIRONMENTS, Environment, interpreter

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TESTS = {
    "tests/saving/test_made.py": """
import pytest, warnings
def test_good(): pass
@pytest.mark.parametrize("file", ["a.onnx", "b.aoti.pt2"])
def test_file(file): assert file == "a.onnx", "no compiler\\nand more"
def test_absent(): pytest.importorskip("no_such_library")
@pytest.mark.xfail
def test_known(): assert False
class TestIn:
    def test_inside(self): pass
""",
    "tests/comparing/test_broken.py": "raise FutureWarning('torch.jit is gone')",
}


@pytest.fixture(scope="module")
def junit(tmp_path_factory):
    place = tmp_path_factory.mktemp("suite")
    for name, text in TESTS.items():
        (place / name).parent.mkdir(parents=True)
        (place / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", "--junitxml=out.xml", "tests"]
    subprocess.run(command, cwd=place, capture_output=True, check=False)
    return place / "out.xml"


def test_what_pytest_wrote_is_read(junit):
    found = {o.test: (o.result, o.why) for o in outcomes(junit)}
    made = "tests/saving/test_made.py"
    assert found[f"{made}::test_good"] == ("passed", "")
    assert found[f"{made}::TestIn::test_inside"] == ("passed", "")
    assert found[f"{made}::test_known"] == ("passed", "")
    assert found[f"{made}::test_file[a.onnx]"] == ("passed", "")
    assert found[f"{made}::test_file[b.aoti.pt2]"] == ("failed", "AssertionError: no compiler")
    assert found[f"{made}::test_absent"][0] == "skipped"
    assert "no_such_library" in found[f"{made}::test_absent"][1]
    assert found["tests/comparing/test_broken.py"][0] == "failed"  # it stopped at collection
    assert len(found) == 7
    assert counts(list(outcomes(junit))) == {"passed": 4, "failed": 2, "skipped": 1}


@pytest.mark.parametrize(
    ("test", "areas"),
    [
        ("tests/surgery/test_rewriting.py::test_a", {"convert"}),
        ("tests/profiling/timing/test_verdicts.py::test_a", {"profile"}),
        ("tests/comparing/test_outputs.py::test_a", {"diff"}),
        ("tests/models/exported/test_program_check.py::test_a", {".pt2"}),
        ("tests/saving/test_folded_files.py::test_sizes[fast.onnx]", {"fold", "ONNX"}),
        ("tests/integrations/test_loading.py::test_a", {"Ultralytics"}),
        ("tests/integrations/transformers/test_trainer.py::test_a", {"transformers"}),
        ("tests/zoo/test_slice.py::test_small_models_of_transformers[Yolos]", {"transformers"}),
        ("tests/records/test_gates.py::test_a", set()),
    ],
)
def test_tests_belong_to_areas(test, areas):
    found = by_area([Outcome(test, "passed")])
    assert {area for area, n in found.items() if n["passed"]} == areas


@pytest.mark.slow
def test_no_area_is_empty():
    """Every pattern matches tests that there are."""
    listed = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-m",
            "",
            "-p",
            "no:cacheprovider",
            "tests/saving",
            "tests/zoo",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    for area in ("fold", ".pt2", "ONNX", "AOTI", "transformers", "torchvision"):
        assert any(re.search(AREAS[area], line) for line in listed if "::" in line), area


def result(passed, failed, skipped=0, **more):
    one = {"passed": passed, "failed": failed, "skipped": skipped}
    return {
        "python": "3.11.7",
        "packages": {"torch": "2.10.0+cpu"},
        "runs": {"suite": {"arguments": "", "seconds": 9, "counts": one, "whole": not failed}},
        "areas": dict.fromkeys(AREAS, one) | {"AOTI": {"passed": 0, "failed": 0, "skipped": 3}},
        "failed": {f"tests/test_a.py::test_{i}": "AssertionError: 1 | 2" for i in range(failed)},
        "skipped": {"no compiler": skipped} if skipped else {},
        **more,
    }


def test_the_page_says_what_failed_and_what_was_not_run():
    oldest = ENVIRONMENTS[0]
    text = table.page({oldest.name: result(120, 20, 3)})
    assert "| 2.10.0+cpu | 3.11.7 | 120 | 20 | 3 | in part | not installed |" in text
    row = next(line for line in text.splitlines() if line.startswith(f"| {oldest.torch}, {oldest.python} |"))
    assert row.split(" | ")[1] == "120, 20 failed, 3 skipped"
    assert row.split(" | ")[1 + list(AREAS).index("AOTI")] == "not run"
    assert "* `tests/test_a.py::test_0`: `AssertionError: 1 | 2`" in text
    assert "* and 8 more" in text
    assert "* 3: `no compiler`" in text
    assert "* suite (`pytest`): 120 passed, 20 failed, 3 skipped, in 9 s, stopped before the end" in text
    assert "| whole |" in table.page({oldest.name: result(120, 0)})
    for other in ENVIRONMENTS[1:]:
        assert f"| {other.torch} | {other.python} | not run |" in text


def test_what_failed_is_run_again_and_said(monkeypatch, tmp_path):
    oldest = ENVIRONMENTS[0]
    names = [f"tests/saving/test_a.py::test_{i}_onnx" for i in range(4)]
    before = result(10, 4, 1)
    before["failed"] = dict.fromkeys(names, "AssertionError")
    before["areas"] = by_area(
        [*(Outcome(name, "failed") for name in names), Outcome("tests/saving/test_onnx.py::test", "passed")]
    )
    ended = [
        Outcome(names[0], "passed"),
        Outcome(names[1], "failed", "ValueError"),
        Outcome(names[2], "skipped", "no compiler"),
        Outcome(names[3], "passed"),
        Outcome("tests/saving/test_a.py::test_other", "passed"),
    ]
    run = {"arguments": "", "seconds": 3, "counts": counts(ended), "whole": True, "outcomes": ended}
    monkeypatch.setattr(measure, "made", lambda *a: Path("python"))
    monkeypatch.setattr(measure, "_run", lambda *a: dict(run))
    after = measure.measured_again(oldest, tmp_path, before)
    assert after["failed"] == {names[1]: "ValueError"}
    assert after["areas"]["ONNX"] == {"passed": 3, "failed": 1, "skipped": 1}
    assert before["areas"]["ONNX"] == {"passed": 1, "failed": 4, "skipped": 0}
    text = table.page({oldest.name: after})
    assert "| 2.10.0+cpu | 3.11.7 | 12 | 1 | 2 |" in text
    assert "* again (the 4 tests that had failed, after they or what they test were mended, at " in text
    assert measure.measured_again(oldest, tmp_path, result(3, 0)) == result(3, 0)


def test_the_page_in_docs_is_the_one_of_the_results():
    assert (ROOT / "docs" / "versions.md").read_text(encoding="utf-8") == table.page(table.read())


def test_the_oldest_and_the_pinned_torch_and_every_python_are_tried():
    floor = next(re.fullmatch(r"torch>=([\d.]+)", d) for d in PROJECT["dependencies"] if d.startswith("torch>"))[1]
    tried = [tuple(map(int, e.torch.split("."))) for e in ENVIRONMENTS]
    assert min(tried)[:2] == tuple(map(int, floor.split(".")))
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert pinned.partition("==")[2] in {e.torch for e in ENVIRONMENTS}
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert min(tuple(map(int, e.python.split("."))) for e in ENVIRONMENTS) == tuple(map(int, oldest.split(".")))
    assert len({e.name for e in ENVIRONMENTS}) == len(ENVIRONMENTS)


def test_an_environment_keeps_its_torch():
    text = environments._constraints(Environment("3.11", "2.14.1", torchvision="0.29.1"))
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("torch")] == ["torch==2.14.1", "torchvision==0.29.1"]
    assert "fvcore==0.1.5.post20221221" in lines


def test_a_python_that_is_not_there_is_one_message():
    here = ".".join(map(str, sys.version_info[:2]))
    assert interpreter(here)
    with pytest.raises(SystemExit, match=r"no Python 9\.9"):
        interpreter("9.9")
