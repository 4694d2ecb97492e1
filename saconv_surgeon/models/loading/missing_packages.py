"""Which package code or a file wants that cannot be imported here, and how to get it. Imports no torch."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

DISTRIBUTIONS = {
    "PIL": "Pillow",
    "absl": "absl-py",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "clip": "git+https://github.com/openai/CLIP.git",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "detectron2": "git+https://github.com/facebookresearch/detectron2.git",
    "dotenv": "python-dotenv",
    "git": "GitPython",
    "google": "protobuf",
    "hydra": "hydra-core",
    "lightning_fabric": "lightning",
    "open_clip": "open-clip-torch",
    "pkg_resources": "setuptools",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorboardX": "tensorboardX",
    "torch_geometric": "torch-geometric",
    "yaml": "PyYAML",
}
"""What pip calls packages that are imported under another name."""
OF_REPOSITORIES = frozenset(
    "archs backbone backbones basicsr code common config configs core data datasets engine experiments layers lib libs "
    "main model modeling modelling models module modules net nets network networks nn ops project src tools train utils".split()
)
"""Names that repositories give to their own top-level folders and files; no package to install is meant by them."""
_ATTRIBUTE = re.compile(r"Can't get attribute '(?P<name>[^']+)' on <module '(?P<module>[^']+)'")


def advice(error: BaseException) -> str:
    """How to get the module that an import did not find, to be added to a message; empty for any other error."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or is_importable(error.name):
        return ""
    return f"; {how_to_get(error.name)}"


def how_to_get(module: str) -> str:
    """What to do so that ``module``, which is not there, can be imported.

    A file may name anything, so that nobody is told to install a package only because a file names it.
    """
    top = module.partition(".")[0]
    on_path = "run from the folder that has it, or put that on PYTHONPATH"
    if top in OF_REPOSITORIES:
        return f"{top} belongs to the repository that the model comes from: {on_path}"
    if top in DISTRIBUTIONS:
        return f"{top} is not installed: pip install {DISTRIBUTIONS[top]}"
    return f"{top} is not installed: install the package that the model was made with, or if it is code of your own, {on_path}"


def is_importable(module: str) -> bool:
    """Whether there is a top-level module to import ``module`` from, here or in the working folder. Nothing is imported."""
    top = module.partition(".")[0]
    try:
        # the finder of the path first: setuptools' own acts when it is asked for pip, and torch's compiler then misses distutils
        return top in sys.modules or bool(
            PathFinder.find_spec(top) or PathFinder.find_spec(top, [str(Path.cwd())]) or importlib.util.find_spec(top)
        )
    except (ImportError, ValueError, AttributeError, OSError):
        return False


def missing_packages(classes: Iterable[str]) -> list[str]:
    """The top-level packages of ``classes``, given by their dotted names, that cannot be imported here."""
    tops = dict.fromkeys(name.partition(".")[0] for name in classes if "." in name)
    return [top for top in tops if not is_importable(top)]


def why_not_loaded(error: ImportError | AttributeError, classes: Iterable[str] = ()) -> str:
    """What a pickle wanted that could not be imported, and what to do; ``classes`` are all that it names, if that is known."""
    absent = missing_packages(classes)
    if isinstance(error, ModuleNotFoundError) and error.name and not is_importable(error.name):
        absent = list(dict.fromkeys([*absent, error.name.partition(".")[0]]))
    if absent:
        return "; ".join(map(how_to_get, absent))
    found = _ATTRIBUTE.search(str(error))
    module = found["module"] if found else getattr(error, "name", None)
    if found and f"__main__.{found['name']}" in {*classes, f"{module}.{found['name']}"}:
        return (
            f"its class {found['name']} was defined in the script that saved it, which cannot be imported: put the class into a "
            "file, and give that as file.py:factory with the weights of the model, from a state dict, as --weights"
        )
    if not module:
        return f"{error}; run from the folder of its code, or put that on PYTHONPATH"
    lacks = f"no {found['name']} in {module}" if found else str(error)
    return f"{_as_found(module)} does not fit: {lacks}; {_another(module.partition('.')[0])}"


def _as_found(module: str) -> str:
    """The package of ``module`` as it is here: its version, or its place."""
    top = module.partition(".")[0]
    try:
        return f"{top} {metadata.version(DISTRIBUTIONS.get(top, top))}"
    except (metadata.PackageNotFoundError, ValueError):
        known = sys.modules.get(top)
        place = getattr(known, "__file__", None) or next(iter(getattr(known, "__path__", ())), None)
        return f"{top} ({place})" if place else top


def _another(top: str) -> str:
    if top in OF_REPOSITORIES:
        return f"run from the folder of the repository whose {top} it was saved with, or put that on PYTHONPATH"
    return "it was saved with another version: install that one"
