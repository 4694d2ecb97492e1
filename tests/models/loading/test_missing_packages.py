"""A pickle whose code is not here says what it needs."""

import importlib.util
import subprocess
import sys
import types
import warnings

import pytest
import torch

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.missing_packages import how_to_get, missing_packages
from saconv_surgeon.models.loading.model_spec import load_model


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Saves a module of a class at a dotted name, whose modules exist only while it is saved."""

    def save(dotted, **options):
        module, _, name = dotted.rpartition(".")
        parts = module.split(".")
        with monkeypatch.context() as patch:
            for i in range(len(parts)):
                part = ".".join(parts[: i + 1])
                if part not in sys.modules:
                    patch.setitem(sys.modules, part, types.ModuleType(part))
            made = type(name, (torch.nn.Module,), {"__module__": module})
            patch.setattr(sys.modules[module], name, made, raising=False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the old format wants the source of the class
                torch.save({"model": made()}, tmp_path / "m.pt", **options)
        return str(tmp_path / "m.pt")

    return save


NEEDS = [
    ("yolov5.models.yolo.DetectionModel", "yolov5 is not installed"),
    ("cv2.dnn.Net", "cv2 is not installed: pip install opencv-python"),
    ("sklearn.nets.Net", "pip install scikit-learn"),
    (
        "models.yolo.Model",
        "models belongs to the repository that the model comes from: run from the folder that has it",
    ),
    ("a_lib_of_nobody.Net", "a_lib_of_nobody is not installed"),
]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("dotted", "message"), NEEDS)
def test_missing_package_is_named_with_and_without_trust(saved, dotted, message, legacy):
    package = dotted.partition(".")[0]
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    file = saved(dotted, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelError) as raised:
        load_model(file, trust=True)
    assert message in str(raised.value)
    with pytest.raises(UntrustedError) as raised:
        load_model(file)
    assert message in str(raised.value)
    assert dotted in str(raised.value)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize(
    ("dotted", "messages"),
    [
        ("click.core.NoSuchClass", ("click 8", "no NoSuchClass in click.core", "another version")),
        ("click.nowhere.Net", ("click 8", "No module named 'click.nowhere'", "another version")),
        ("__main__.Net", ("Net was defined in the script that saved it", "--weights")),
    ],
)
def test_package_without_the_class(saved, dotted, messages):
    with pytest.raises(ModelError) as raised:
        load_model(saved(dotted), trust=True)
    for message in messages:
        assert message in str(raised.value)


def test_package_that_is_found_in_the_working_folder_is_not_missing(saved, tmp_path, monkeypatch):
    file = saved("nets_beside.Net")
    with pytest.raises(UntrustedError, match="nets_beside is not installed"):
        load_model(file)
    (tmp_path / "nets_beside.py").write_text("from torch import nn\nclass Net(nn.Module): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(UntrustedError) as raised:
        load_model(file)
    assert "is not installed" not in str(raised.value)
    assert "nets_beside" not in sys.modules  # nothing was run
    try:
        assert type(load_model(file, trust=True).module).__name__ == "Net"
        assert sys.path[-1] == str(tmp_path)
    finally:
        sys.modules.pop("nets_beside", None)


def test_missing_module_of_a_file_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "net_that_imports.py").write_text("import skimage_of_nobody\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ModelError, match="skimage_of_nobody is not installed"):
        load_model(f"{tmp_path / 'net_that_imports.py'}:build")


def test_no_file_can_make_us_advise_to_install_what_it_names():
    assert "pip install" not in how_to_get("a_lib_of_nobody.net")
    assert missing_packages(["torch.nn.Conv2d", "os.path", "nowhere_at_all.x", "nowhere_at_all.y"]) == [
        "nowhere_at_all"
    ]


@pytest.mark.parametrize("content", [b"from torch import nn\n", b'{"a": 1}', b"\x80\x04K\x01."])
@pytest.mark.parametrize("trust", [False, True])
def test_files_of_other_kinds_get_no_advice_to_trust_them_blindly(tmp_path, content, trust):
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded") as raised:
        load_model(str(tmp_path / "m.pt"), trust=trust)
    assert "weights_only" not in str(raised.value)


def test_asking_for_pip_changes_nothing():
    """The finder of setuptools takes its distutils away as soon as it is asked for pip."""
    code = (
        "import sys; from saconv_surgeon.models.loading.missing_packages import is_importable; sys.modules.pop('pip', None)\n"
        "finders = [(f, dict(vars(f))) for f in sys.meta_path if not isinstance(f, type)]\n"
        "assert is_importable('pip'); assert all(vars(f) == before for f, before in finders)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
