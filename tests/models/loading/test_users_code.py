"""Code of the user's that ends the process, reads its arguments or changes its settings."""

import os
import sys
import warnings
from pathlib import Path

import pytest
import torch

from saconv_surgeon.errors import UserCodeError
from saconv_surgeon.models.loading.input_spec import make_data, offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.loading.users_code import process_kept, users_code
from tests.cli.running import run

PLACES = {
    "import": "{end}\ndef build(): return nn.Conv2d(3, 8, 3)\n",
    "neighbour": "import ends\ndef build(): return nn.Conv2d(3, 8, 3)\n",
    "factory": "def build():\n    {end}\n",
    "constructor": "class build(nn.Module):\n    def __init__(self):\n        {end}\n",
}
ENDS = {
    "sys.exit()": "exit status 0",
    "sys.exit(0)": "exit status 0",
    "sys.exit(2)": "exit status 2",
    "sys.exit('no such dataset')": "'no such dataset'",
    "exit()": "exit status 0",
    "quit(7)": "exit status 7",
    "raise SystemExit": "exit status 0",
    "raise Stop('enough')": "raised Stop: enough",
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes files in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("net", "ends"):  # of another test
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)

    def write(name, text):
        (tmp_path / name).write_text(f"import sys, os\nfrom torch import nn\nclass Stop(BaseException): pass\n{text}")

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("end", ENDS)
def test_code_that_ends_the_process(written, place, end):
    written("ends.py", f"{end}\n")
    written("net.py", PLACES[place].format(end=end))
    with pytest.raises(UserCodeError) as raised:
        load_model("net.py:build")
    assert ENDS[end] in str(raised.value)
    assert "net.py" in str(raised.value)
    assert "net" not in sys.modules or place in ("factory", "constructor")


def test_interruptions_pass(written):
    written("net.py", "def build():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_model("net.py:build")


def test_inputs_and_batches_that_end_the_process(written):
    written(
        "net.py",
        "def build(): return nn.Conv2d(3, 8, 3)\ndef example_inputs(): sys.exit()\n"
        "def batches():\n    yield 1\n    sys.exit()\n",
    )
    with pytest.raises(UserCodeError, match=r"example_inputs\(\) of net.py:build ended the process"):
        offered_inputs(load_model("net.py:build"))
    data = make_data("net.py:batches")
    assert next(data) == 1
    with pytest.raises(UserCodeError, match=r"net\.py:batches ended the process"):
        next(data)


class EndsWhenLoaded:
    def __reduce__(self):
        return sys.exit, (0,)


def test_pickle_that_ends_the_process(tmp_path):
    torch.save({"model": EndsWhenLoaded()}, tmp_path / "m.pt")
    with pytest.raises(UserCodeError, match=r"m\.pt ended the process"):
        load_model(str(tmp_path / "m.pt"), trust=True)


def test_arguments_are_the_file_alone(written, monkeypatch):
    ours = ["saconv-surgeon", "inspect", "net.py:build", "--input", "1x3x9x9"]
    monkeypatch.setattr(sys, "argv", ours)
    written(
        "net.py",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--width', type=int, default=5)\n"
        "width = parser.parse_args().width\ndef build(): return nn.Conv2d(3, width + len(sys.argv), 3)\n",
    )
    assert load_model("net.py:build").module.out_channels == 6
    assert sys.argv is ours
    assert len(ours) == 5


@pytest.mark.parametrize(
    ("reader", "code"),
    [
        ("argparse", "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n"),
        (
            "click",
            "import click\n@click.command()\n@click.argument('data')\ndef main(data): pass\nmain()\n",
        ),
        ("click", "import click\n@click.command()\ndef main(): pass\nmain()\n"),
    ],
)
def test_reader_of_the_command_line_is_named(written, reader, code):
    written("net.py", code)
    with pytest.raises(UserCodeError, match=f"reads the command line with {reader}"):
        load_model("net.py:build")


def test_process_is_left_as_it_was(written, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "width.txt").write_text("7")
    written(
        "net.py",
        "import warnings, io\nfrom pathlib import Path\nos.chdir('elsewhere')\nsys.stdout = sys.stderr = io.StringIO()\n"
        "sys.argv.append('more')\nwarnings.filterwarnings('error', 'a rare word')\n"
        "warnings.filterwarnings('ignore', 'a noisy library')\n"
        "def build(): return nn.Conv2d(3, int(Path('width.txt').read_text()), 3)\n",
    )
    streams, argv, filters = (sys.stdout, sys.stderr), list(sys.argv), list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert load_model("net.py:build").module.out_channels == 7  # its own folder is there for its factory
        assert [each for each in warnings.filters if each[0] == "error" and each not in filters] == []
        with warnings.catch_warnings(record=True) as seen:
            warnings.warn("a noisy library speaks", stacklevel=1)
        assert not seen
    assert (Path.cwd(), (sys.stdout, sys.stderr), sys.argv) == (tmp_path, streams, argv)
    assert warnings.filters == filters


def test_neighbours_come_first_for_the_file_and_last_for_everybody_else(written, tmp_path, monkeypatch):
    for name in ("colorsys", "sndhdr_of_mine"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    written("net.py", "import sndhdr_of_mine\ndef build(): return nn.Conv2d(3, 8, 3)\n")
    load_model("net.py:build")
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    import colorsys

    assert not hasattr(colorsys, "MINE")
    del sys.modules["colorsys"]
    written("other.py", "import colorsys\ndef build(): return nn.Conv2d(3, 8 + colorsys.MINE, 3)\n")
    assert load_model("other:build").module.out_channels == 9
    del sys.modules["colorsys"]


def test_folder_that_is_gone_is_no_reason_to_fail(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    with process_kept("some.py"):
        os.chdir("gone")
    (tmp_path / "gone").rmdir()
    with users_code("anything", "some.py"):
        assert Path.cwd() == tmp_path


@pytest.mark.parametrize("code", ["sys.exit(2)", "sys.exit('bye')", "raise SystemExit"])
def test_an_exit_in_a_forward_is_not_blamed_on_our_own_command_line(written, code):
    """The frames of click are above those of this package, which calls the model."""
    written(
        "net.py",
        f"class Net(nn.Conv2d):\n    def forward(self, x): {code}\ndef build(): return Net(3, 8, 3)\n",
    )
    result = run("inspect", "net.py:build", "--input", "1x3x8x8")
    assert result.exit_code == 3
    assert "ended the process" in result.stderr
    assert "click" not in result.stderr.splitlines()[-1]


def test_a_forward_that_reads_the_command_line_is(written):
    written(
        "net.py",
        "import argparse\nclass Net(nn.Conv2d):\n    def forward(self, x): argparse.ArgumentParser().parse_args(['-x'])\n"
        "def build(): return Net(3, 8, 3)\n",
    )
    result = run("inspect", "net.py:build", "--input", "1x3x8x8")
    assert "reads the command line with argparse" in result.stderr


def test_a_redraw_that_exits_is_called_so(written):
    written(
        "net.py",
        "def build(): return nn.Sequential(nn.Conv2d(3, 8, 3))\ndef make(inputs, trial): sys.exit(0)\n",
    )
    result = run("convert", "net.py:build", "--input", "1x3x8x8", "--dry-run", "--redraw", "net.py:make")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(
        "saconv-surgeon: redraw ended the process (exit status 0) for trial 1"
    )
