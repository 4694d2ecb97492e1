"""Makes the pictures of README and docs with the tool itself: ``make pictures``, which needs playwright and chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from docs.train_sample import train

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs/pictures"
MODEL = "sample_models/tiny_resnet.py:build"
SIZES = {"desktop": (1180, 1240, "light"), "dark": (1180, 820, "dark"), "phone": (390, 844, "light")}


def main() -> None:
    """Converts a sample model, trains it for a minute on drawn images, and shows what the tool says of it."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "sample_models").symlink_to(ROOT / "sample_models")
        _run(work, "convert", MODEL, "-o", "converted", "--report", str(PICTURES / "convert.svg"))
        train(work)
        reports = [part for kind in ("svg", "html") for part in ("--report", f"diff.{kind}")]
        _run(work, "diff", MODEL, "trained.pt", "--trust", *reports, "--fail-if", "macs>2.5x")
        shutil.copy(work / "diff.svg", PICTURES / "diff.svg")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            for kind, (width, height, scheme) in SIZES.items():
                _photograph(browser, work / "diff.html", PICTURES / f"report-{kind}.png", width, height, scheme)
            browser.close()


def _run(work: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "saconv_surgeon", *arguments, "-q"], cwd=work, check=True)


def _photograph(browser: Browser, page: Path, picture: Path, width: int, height: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    view.goto(page.as_uri())
    if scheme == "dark":
        view.get_by_role("button", name="MACs B").click()
        view.locator("#h-layers").evaluate("e => e.scrollIntoView()")
    view.screenshot(path=picture)
    view.close()


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


if __name__ == "__main__":
    main()
