"""The public surface, the order of the layers, and the records."""

import ast
import json
import re
from pathlib import Path

import pytest

import saconv_surgeon as surgeon
from saconv_surgeon import records

PACKAGE = Path(surgeon.__file__).parent
LAYERS = (
    *("_version", "errors", "records", "convs", "models", "integrations", "surgery", "profiling", "comparing"),
    *(
        "folding",
        "saving",
        "api",
        "report",
        "opening",
        "cli_options",
        "cli_talk",
        "cli_results",
        "cli_checks",
        "cli",
        "__main__",
    ),
)
"""From the bottom up: a file imports from its own layer or from one before it."""


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("saconv_surgeon"):
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "saconv_surgeon"
                else [node.module]
            )
            yield from (name.split(".")[1] for name in names if "." in name)


def layer_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_all_is_sorted_and_importable():
    assert surgeon.__all__ == sorted(surgeon.__all__)
    assert set(surgeon.__all__) <= set(dir(surgeon))
    for name in surgeon.__all__:
        assert getattr(surgeon, name) is not None
        assert getattr(surgeon, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError):
        surgeon.no_such_name  # noqa: B018


def test_imports_go_one_way():
    files = [f for f in PACKAGE.rglob("*.py") if f.name != "__init__.py"]
    assert len(files) > 20
    for file in files:
        for used in imports_of(file):
            assert LAYERS.index(used) <= LAYERS.index(layer_of(file)), f"{file} imports {used}"


def test_the_check_of_imports_can_fail(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("from saconv_surgeon.cli import main\nfrom saconv_surgeon import api\n")
    assert list(imports_of(file)) == ["cli", "api"]


def test_report_imports_no_torch():
    for file in (PACKAGE / "report").glob("*.py"):
        assert "import torch" not in file.read_text(encoding="utf-8")


def test_nothing_below_the_cli_prints():
    for file in PACKAGE.rglob("*.py"):
        if layer_of(file) != "cli":
            assert not re.search(r"(?<![\w.])print\(", file.read_text(encoding="utf-8")), file


PROFILE = records.Profile(
    model="m",
    parameters=3,
    trainable_parameters=2,
    macs=None,
    flops=7,
    fvcore_flops=1,
    activations=1,
    uncounted_ops={"aten::x": records.UncountedOp(2, ("a", "b"))},
    latency=records.Latency("cpu", 1.0, 2.0, 0.5, 0.9, 10, 3, 1, "wall clock"),
    peak_memory_bytes=None,
    layers=(records.LayerCost("a", "Conv2d", 3, 1, 2, 3),),
    input_shapes=((1, 2), (3,)),
)


def test_records_survive_json():
    assert records.from_dict(records.Profile, json.loads(json.dumps(records.to_dict(PROFILE)))) == PROFILE


def test_numbers_that_are_not_finite_are_null():
    found = records.Equivalence(False, False, float("nan"), float("inf"), 1e-5, 1, 1)
    assert records.to_dict(found)["max_abs"] is None
    assert records.to_dict(found)["max_rel"] is None
    json.dumps(records.to_dict(found), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": "3"}, "Profile.parameters: expected int, found '3'"),
        ({"parameters": True}, "Profile.parameters: expected int, found 'True'"),
        ({"layers": 3}, "Profile.layers: expected a list, found '3'"),
        ({"uncounted_ops": []}, "Profile.uncounted_ops: expected an object"),
        ({"latency": {"device": "cpu"}}, "Profile.latency: no field 'median_s'"),
    ],
)
def test_wrong_records_name_the_field(change, message):
    with pytest.raises(ValueError) as raised:
        records.from_dict(records.Profile, {**records.to_dict(PROFILE), **change})
    assert message in str(raised.value)


def test_unknown_fields_are_passed_over():
    assert records.from_dict(records.Profile, {**records.to_dict(PROFILE), "later": 1}) == PROFILE
