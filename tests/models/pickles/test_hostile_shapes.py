"""Nothing of a hostile pickle is run, whatever it hides behind; it is refused, and so is what lies beside good weights."""

import contextlib
import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch

from saconv_surgeon.errors import ModelError, UntrustedError
from saconv_surgeon.models.loading.file_safety import safety_of
from saconv_surgeon.models.loading.weight_files import read_pickle, read_weights
from saconv_surgeon.models.pickles.known_names import kind_of, modern
from tests.models.pickles.assembled import archived, beside_weights, beside_weights_of_old, called, name, text, whole
from tests.models.pickles.shapes import NAMES, RUNNING, STILL

SHAPES = RUNNING | STILL
STATE = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}
FILES = {
    "bare": lambda body, path: path.write_bytes(whole(body, 4)),
    "archive": lambda body, path: archived(body, path, protocol=4),
    "beside weights": lambda body, path: beside_weights(body, STATE, path),
    "beside weights of old": lambda body, path: beside_weights_of_old(body, STATE, path),
}


def refused(path, mark, error=ModelError):
    """The message with which a file is refused by every way of reading it; nothing of it has run."""
    for read in (read_weights, lambda p: read_pickle(p, trust=False)):
        with pytest.raises(error) as raised:
            read(path)
    safety = safety_of(path)
    assert safety.findings
    assert safety.loads != "as data"
    assert not mark.exists(), "code of the file has run"
    return str(raised.value)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_no_shape_runs(tmp_path, shape, file):
    mark = tmp_path / "mark"
    file(shape(str(mark)), tmp_path / "m.pt")
    modules, paths = set(sys.modules), list(sys.path)
    refused(tmp_path / "m.pt", mark)
    assert sys.path == paths
    assert not {
        m for m in set(sys.modules) - modules if m.partition(".")[0] in ("timeit", "cProfile", "pip", "idlelib")
    }


RUN = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    try:
        pickle.load(file)
    except Exception:
        pass
"""


@pytest.mark.parametrize("shape", RUNNING)
def test_the_marks_can_be_left(tmp_path, shape):
    """Python's own unpickler runs them, so that the test above can fail; in one process for each, since they change it."""
    mark = tmp_path / "mark"
    (tmp_path / "m.pkl").write_bytes(whole(RUNNING[shape](str(mark)), 2 if "Python 2" in shape else 4))
    if shape in CHEAP:
        _loaded_in_a_child((tmp_path / "m.pkl").read_bytes())
    else:
        subprocess.run([sys.executable, "-c", RUN, tmp_path / "m.pkl"], check=True, capture_output=True)
    assert mark.exists()


def _loaded_in_a_child(content):
    """What a pickle imports (distutils, which torch's compiler wants after setuptools) stays out of the other tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, on Python 3.12
        pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            pickle.loads(content)
        os._exit(0)
    os.waitpid(pid, 0)


CHEAP = set(RUNNING) - {"items of sys.modules", "attributes of a function"}
"""Those that leave the process as it was."""


@pytest.mark.parametrize("wanted", NAMES)
def test_no_name_is_known_by_which_code_was_run(wanted):
    """As a module and an attribute, split at each dot: how a file writes it is up to the file."""
    parts = wanted.split(".")
    for i in range(1, len(parts)):
        found = kind_of(modern(".".join(parts[:i]), ".".join(parts[i:])))
        assert found is None or (wanted, found) == ("builtins.getattr", "attribute")


@pytest.mark.parametrize(
    "wanted", ["torch.jit.load", "pip.main", "numpy.testing._private.utils.runstring", "__main__.Evil"]
)
def test_the_refusal_says_what_was_wanted_and_what_to_do(tmp_path, wanted):
    module, _, attribute = wanted.rpartition(".")
    beside_weights(called(name(module, attribute), text("x")), STATE, tmp_path / "m.pt")
    message = refused(tmp_path / "m.pt", tmp_path / "mark", UntrustedError)
    assert wanted in message
    assert "--trust" in message
    assert "state dict" in message


def test_all_that_is_wanted_is_said_at_once(tmp_path):
    wanted = [("posix", "system"), ("builtins", "eval"), ("pip", "main")]
    archived(b"".join(called(name(*each), text("x")) + pickle.POP for each in wanted) + pickle.NONE, tmp_path / "m.pt")
    message = refused(tmp_path / "m.pt", tmp_path / "mark")
    for module, attribute in wanted:
        assert f"{module}.{attribute}" in message


def test_what_a_file_wants_cannot_act_on_the_terminal(tmp_path):
    escape = "\x1b[2J\r"
    archived(
        pickle.SHORT_BINUNICODE + b"\x03abc" + text(f"x{escape}y")[:0] + _long_name(escape) + pickle.POP,
        tmp_path / "m.pt",
    )
    message = refused(tmp_path / "m.pt", tmp_path / "mark")
    assert "\x1b" not in message
    assert "\r" not in message


def _long_name(escape):
    return text(f"m{escape}") + text("x" * 5000) + pickle.STACK_GLOBAL


def test_code_that_runs_before_the_pickle_breaks(tmp_path):
    mark = tmp_path / "mark"
    body = called(name("posix", "mkdir"), text(str(mark)))
    for tail in (b"", b"\xff", pickle.POP + pickle.POP + pickle.POP, pickle.BINGET + b"\x09", b"X\xff\xff\xff\x7f"):
        (tmp_path / "m.pt").write_bytes(pickle.PROTO + b"\x02" + body + tail)
        refused(tmp_path / "m.pt", mark)
        archived(body + tail, tmp_path / "m.pt")
        assert "posix.mkdir" in refused(tmp_path / "m.pt", mark)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".txt", ".jpg", ".npy", ""])
def test_whatever_the_file_is_called(tmp_path, suffix):
    mark, path = tmp_path / "mark", tmp_path / f"m{suffix}"
    archived(called(name("posix", "mkdir"), text(str(mark))), path)
    assert "posix.mkdir" in refused(path, mark)


@pytest.mark.parametrize("suffix", [".safetensors", ".safetensors.index.json", ".pt2", ".onnx"])
def test_a_pickle_by_the_name_of_something_else(tmp_path, suffix):
    mark, path = tmp_path / "mark", tmp_path / f"m{suffix}"
    archived(called(name("posix", "mkdir"), text(str(mark))), path)
    with pytest.raises(ModelError):
        read_weights(path)
    assert safety_of(path).loads != "as data"
    assert not mark.exists()


def test_several_pickles_in_one_file(tmp_path):
    mark = tmp_path / "mark"
    evil = whole(called(name("posix", "mkdir"), text(str(mark))))
    (tmp_path / "m.pkl").write_bytes(whole(pickle.EMPTY_DICT) + evil)
    assert "something follows the pickle" in refused(tmp_path / "m.pkl", mark)
    archived(pickle.EMPTY_DICT + pickle.STOP + evil[:-1], tmp_path / "m.pt")
    assert "something follows the pickle" in refused(tmp_path / "m.pt", mark)


def test_trust_runs_no_bare_pickle_for_nothing(tmp_path):
    """torch would run it and then say that it is no file of its own."""
    mark = tmp_path / "mark"
    (tmp_path / "m.pt").write_bytes(whole(called(name("posix", "mkdir"), text(str(mark)))))
    with pytest.raises(ModelError, match="which torch does not load"):
        read_pickle(tmp_path / "m.pt", trust=True)
    assert not mark.exists()


def test_trust_still_loads_what_only_trust_may(tmp_path):
    mark = tmp_path / "mark"
    beside_weights(called(name("posix", "mkdir"), text(str(mark))), STATE, tmp_path / "m.pt")
    assert torch.equal(read_weights(tmp_path / "m.pt", trust=True)["0.weight"], STATE["0.weight"])
    assert mark.exists()
