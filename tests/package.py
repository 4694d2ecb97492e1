"""What ``make package`` asks of wheel and sdist: ``python -m tests.package dist``, in an environment that has the wheel."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

HAS = ("saconv_surgeon/py.typed", "saconv_surgeon/cli/demo_model.py", "saconv_surgeon/report/formats/html.py")
SDIST_HAS = ("pyproject.toml", "README.md", "LICENSE", "tests/nets.py", "sample_models/tiny_resnet.py")


def check_contents(dist: Path) -> None:
    """The files that have to be there, and none that have not."""
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = message_from_bytes(archive.read(next(name for name in names if name.endswith("/METADATA"))))
    assert all(name in names for name in HAS), names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"saconv_surgeon"}, (
        "the wheel has other packages in it"
    )
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["License-Expression"] == "Apache-2.0"
    with tarfile.open(sdist) as archive:
        inside = [name.partition("/")[2] for name in archive.getnames()]
    assert all(name in inside for name in SDIST_HAS), inside


def check_installed(dist: Path) -> None:
    """The commands, from a folder that has nothing of the project."""
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (["demo", "-o", "out"], ["env"], ["profile", "out", "--no-latency"], ["fold", "--help"]):
            subprocess.run([Path(sys.executable).parent / "saconv-surgeon", *arguments], cwd=folder, check=True)
        code = "import saconv_surgeon, sys; sys.exit('site-packages' not in saconv_surgeon.__file__)"
        subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


if __name__ == "__main__":
    check_contents(Path(sys.argv[1]))
    check_installed(Path(sys.argv[1]))
    sys.stdout.write("wheel and sdist are whole; the wheel works in a clean environment\n")
