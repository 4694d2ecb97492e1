"""The public surface, the order of the layers, and the records."""

import ast
import graphlib
import json
import re
import textwrap
from pathlib import Path

import pytest

import saconv_surgeon as surgeon
from saconv_surgeon import records

PACKAGE = Path(surgeon.__file__).parent
LAYERS = (
    *("_version", "errors", "records", "report", "convs"),
    *(
        "models.tree",
        "models.archive_check",
        "models.pickles",
        "models.running",
        "models.census",
        "models.exported",
        "models.loading",
    ),
    *("integrations", "profiling", "comparing", "surgery", "folding", "saving", "planning", "api"),
    *("integrations.lightning", "integrations.mmengine", "integrations.ray", "cli", "__main__"),
)
"""From the bottom up: a file imports from its own layer or from one before it."""
NAMED = re.compile(r"(saconv_surgeon(?:\.\w+)+)(?::\w+)?")
"""A string that names a module, or a class of one, to be imported later."""


def module_of(file):
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source, modules):
    """The modules that a file imports, at once, in a function, for its types, or by a name in a string."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "saconv_surgeon":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("saconv_surgeon.")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = NAMED.fullmatch(node.value)
            names = [named[1]] if named else []
        else:
            continue
        for name in names:
            name = name.partition(".")[2]
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name:
                yield name


def layer_of(module):
    return max(i for i, layer in enumerate(LAYERS) if f"{module}.".startswith(f"{layer}."))


@pytest.fixture(scope="module")
def imports():
    """By module, what it imports. The package itself, which imports everything when it is asked for it, is left out."""
    sources = {module_of(f): f.read_text(encoding="utf-8") for f in PACKAGE.rglob("*.py")}
    sources.pop("")
    return {module: set(imports_of(source, sources)) - {module} for module, source in sources.items()}


def test_all_is_sorted_and_importable():
    assert surgeon.__all__ == sorted(surgeon.__all__)
    assert set(surgeon.__all__) <= set(dir(surgeon))
    for name in surgeon.__all__:
        assert getattr(surgeon, name) is not None
        assert getattr(surgeon, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError):
        surgeon.no_such_name  # noqa: B018


def test_imports_go_one_way(imports):
    assert len(imports) > 150
    wrong = [(m, used) for m, names in imports.items() for used in names if layer_of(used) > layer_of(m)]
    assert wrong == []


def test_imports_make_no_circle(imports):
    graphlib.TopologicalSorter(imports).prepare()


def test_the_checks_of_imports_can_fail():
    lazy = """
        from saconv_surgeon.cli import main
        from saconv_surgeon import api
        if TYPE_CHECKING:
            from saconv_surgeon.convs.saconv import SAConv2d
        def f():
            from saconv_surgeon.cli.app import cli
            import saconv_surgeon.errors
            return imported_later("saconv_surgeon.convs.aws:ConvAWS2d")
    """
    modules = {"cli", "cli.app", "api", "convs.saconv", "convs.aws", "errors"}
    assert set(imports_of(textwrap.dedent(lazy), modules)) == modules
    assert layer_of("cli.app") > layer_of("api") > layer_of("models.loading.in_memory") > layer_of("models.tree.paths")
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_report_imports_no_torch():
    for file in (PACKAGE / "report").rglob("*.py"):
        assert "import torch" not in file.read_text(encoding="utf-8")


def test_only_formats_know_rich():
    for file in (PACKAGE / "report").rglob("*.py"):
        if "formats" not in file.parts:
            assert not re.search(r"^\s*(from|import) rich", file.read_text(encoding="utf-8"), re.MULTILINE), file


def test_nothing_below_the_cli_prints():
    for file in PACKAGE.rglob("*.py"):
        if "cli" not in file.parts:
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
