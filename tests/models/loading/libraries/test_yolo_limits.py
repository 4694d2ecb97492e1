"""YAML files that ask for more than there is: refused before anything is built."""

import os
import time
from pathlib import Path

import pytest

from saconv_surgeon.errors import ModelError
from saconv_surgeon.models.loading.libraries.yolo_limits import check_yaml

yaml = pytest.importorskip("yaml")
GOOD = """
nc: 80
scales:
  n: [0.33, 0.25, 1024]
  x: [1.00, 1.25, 512]
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 6, C2f, [1024, True]]
  - [-1, 1, SPPF, [1024, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 1], 1, Concat, [1]]
  - [[1, 2], 1, RTDETRDecoder, [nc, 256, 300, 4, 8, 3]]
  - [[1, 2], 1, Detect, [nc]]
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


def write(tmp_path, text):
    (tmp_path / "m.yaml").write_text(text)
    return tmp_path / "m.yaml"


def test_models_are_read(tmp_path):
    check_yaml(write(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("6, C2f", "100000000, C2f"),
        ("6, C2f", "[100000000], C2f"),
        ("6, C2f", "1.0e+8, C2f"),
        ("[64, 3, 2]", "['100000000', 3, 2]"),
        ("[64, 3, 2]", "['[64, 100000000]', 3, 2]"),
        ("6, C2f", ".inf, C2f"),
        ("6, C2f", ".nan, C2f"),
        ("[1.00, 1.25, 512]", "[100000000, 1.25, 512]"),
        ("[1.00, 1.25, 512]", "[1.0, 1.0e+9, 512]"),
        ("nc: 80", "nc: 1000000000"),
        ("nc: 80", "nc: 80\ndepth_multiple: 1000000"),
        ("nc: 80", "nc: 80\nwidth_multiple: 1000000"),
        ("[64, 3, 2]", "[100000000, 3, 2]"),
        ("[64, 3, 2]", "[64, 100000, 2]"),
        ("[64, 3, 2]", "[64, 5000, 2]"),
        ("[1024, True]", "[100000, 60]"),
        ("head:", "  - [-1, 150, Conv, [64, 3, 2]]\n" * 20 + "head:"),
        ("nc: 80", LAUGHS),
        ("nc: 80", "a: &a [*a]"),
        ("nc: 80", "a: " + "[" * 5000 + "]" * 5000),
        ("nc: 80", "a: {" * 5000),
        ("nc: 80", "a: [" + "1, " * 60_000 + "1]"),
        ("nc: 80", "a: '" + "x" * 2_000_000 + "'"),
        ("nc: 80", "a: !!python/object/apply:os.mkdir [mark]"),
        (GOOD, "- 1\n- 2\n"),
        (GOOD, ""),
        (GOOD, "just text"),
        ("backbone:", "backbone: 5\nx:"),
    ],
)
def test_files_that_ask_for_too_much(tmp_path, monkeypatch, old, new):
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    with pytest.raises(ModelError, match=r"m\.yaml is not a configuration that can be built"):
        check_yaml(write(tmp_path, GOOD.replace(old, new)))
    assert time.process_time() - started < 10
    assert not (tmp_path / "mark").exists()


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "zeros.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("fifo", "zeros", "folder"):
        with pytest.raises(ModelError, match="regular file"):
            check_yaml(tmp_path / f"{name}.yaml")


@pytest.mark.zoo
def test_all_that_ultralytics_publishes():
    ultralytics = pytest.importorskip("ultralytics")
    files = [*(Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml")]
    assert len(files) > 30
    for file in files:
        check_yaml(file)
