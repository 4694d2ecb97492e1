"""The environments that the tests are run in, and how one is made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PINNED_BY_THE_ENVIRONMENT = ("torch", "torchvision")
LIBRARIES = ("timm", "ultralytics", "segmentation_models_pytorch")
"""Model libraries. They need a torchvision with compiled operators."""


@dataclass(frozen=True)
class Environment:
    """A Python, a torch, and a torchvision if its compiled operators are to be tried."""

    python: str
    torch: str
    torchvision: str | None = None

    @property
    def name(self) -> str:
        """Of its folder and of its results."""
        return f"torch-{self.torch}-python-{self.python}"

    @property
    def requirements(self) -> list[str]:
        """What is installed first, so that nothing else chooses another torch."""
        beside = [f"torchvision=={self.torchvision}"] if self.torchvision else []
        return [f"torch=={self.torch}", *beside]


ENVIRONMENTS = (
    Environment("3.11", "2.10.0"),
    Environment("3.11", "2.13.0"),
    Environment("3.12", "2.13.0"),
    Environment("3.13", "2.13.0"),
    Environment("3.11", "2.14.1", torchvision="0.29.1"),
)
"""The oldest torch that ``pyproject.toml`` admits, the one of ``constraints.txt``, and the newest; every Python."""


def made(environment: Environment, place: Path) -> Path:
    """The interpreter of ``environment`` in a folder of ``place``; one that is there already is taken as it is."""
    folder = place / environment.name
    python = folder / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([interpreter(environment.python), "-m", "venv", folder], check=True)
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *environment.requirements], check=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(_constraints(environment), encoding="utf-8")
    libraries = LIBRARIES if environment.torchvision else ()
    subprocess.run([*install, "--constraint", constraints, "--editable", f"{ROOT}[dev]", *libraries], check=True)
    return python


def removed(environment: Environment, place: Path) -> None:
    """Takes the folder of ``environment`` away: several GB."""
    shutil.rmtree(place / environment.name, ignore_errors=True)


def interpreter(version: str) -> str:
    """The command that runs Python ``version``, on the path or among those of pyenv.

    Raises:
        SystemExit: There is none.
    """
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [f"python{version}", *(str(p) for p in sorted(roots.glob(f"{version}.*/bin/python")))]
    for candidate in candidates:
        if shutil.which(candidate) and _version_of([candidate]) == version:
            return candidate
    raise SystemExit(f"no Python {version}: neither python{version} nor one below {roots}")


def _version_of(command: Sequence[str]) -> str:
    """``major.minor``; empty if the command does not run, as a shim without its version does not."""
    said = subprocess.run(
        [*command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
    )
    return said.stdout.strip()


def _constraints(environment: Environment) -> str:
    """The project's own, with the environment's torch in the place of its own."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("==")[0].lower() not in PINNED_BY_THE_ENVIRONMENT]
    return "\n".join([*kept, *environment.requirements]) + "\n"
