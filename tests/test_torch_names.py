"""Every name of torch that the package uses exists in the torch that is installed, also those that are used rarely.

Private names come and go with versions, and an error about one can go unheard: in a property of a module it counts as a missing
parameter.
"""

import ast
import importlib
import textwrap
import types
from pathlib import Path

import pytest

import saconv_surgeon as surgeon

PACKAGE = Path(surgeon.__file__).parent
WRITTEN_AT_RUN_TIME = ("torch.ops",)


def torch_names(source):
    """``(name, line)`` of every dotted name of torch in ``source``, aliases written out; of imports, what they import."""
    tree = ast.parse(source)
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    aliases[alias.asname or "torch"] = alias.name if alias.asname else "torch"
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch" and not node.level:
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node.lineno
    for node in ast.walk(tree):
        parts = []
        line = getattr(node, "lineno", 0)
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in aliases:
            yield ".".join([aliases[node.id], *reversed(parts)]), line


def resolves(name):
    """Whether ``name`` exists as far as modules and classes go; what instances have is not looked at."""
    parts = name.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 1):
        if not isinstance(found, types.ModuleType | type):
            return True
        if not hasattr(found, part):
            try:
                found = importlib.import_module(".".join(parts[: i + 1]))
            except ImportError:
                return False
        else:
            found = getattr(found, part)
    return True


def named_in_package():
    names = {}
    for file in PACKAGE.rglob("*.py"):
        for name, line in torch_names(file.read_text(encoding="utf-8")):
            if not name.startswith(WRITTEN_AT_RUN_TIME):
                names.setdefault(name, f"{file.relative_to(PACKAGE)}:{line}")
    return names


def test_every_name_of_torch_exists():
    names = named_in_package()
    assert len(names) > 200
    assert {name: place for name, place in names.items() if not resolves(name)} == {}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import torch\ntorch._C._no_such_function()", "torch._C._no_such_function"),
        ("from torch.fx import _symbolic_trace as s\ns._no_such_flag", "torch.fx._symbolic_trace._no_such_flag"),
        ("def f():\n    from torch._export.gone import Converter", "torch._export.gone.Converter"),
        ("from torch import nn\nnn.Module._no_such_method", "torch.nn.Module._no_such_method"),
        ("import torch.no_such_part", "torch.no_such_part"),
    ],
)
def test_a_name_that_is_gone_is_found(line, name):
    missing = [found for found, _ in torch_names(textwrap.dedent(line)) if not resolves(found)]
    assert missing == [name]


def test_names_that_exist_are_not_reported():
    source = (
        "import torch\nfrom torch import Tensor, nn\nTensor.sum\nnn.Conv2d.forward.__name__\ntorch.float32.itemsize"
    )
    assert all(resolves(name) for name, _ in torch_names(source))
