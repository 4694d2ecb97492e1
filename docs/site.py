"""Builds the documentation site: ``make docs``. Needs no network, and what is built loads nothing from elsewhere.

Pages are written in ``docs/``; here they are joined by what is made: the options of every command, the Python interface, the
notebooks as pages, and a gallery of reports that the tool has just made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import nbformat

import saconv_surgeon as surgeon
from saconv_surgeon.cli import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WORK = ROOT / ".docs"
PAGES, SITE = WORK / "pages", WORK / "site"
WIDTH = 80
GALLERY = (
    ("convert", "A conversion", ("convert", "{model}", "-o", "converted", "--roofline")),
    (
        "profile",
        "A profile, as a tree, with a training step",
        ("profile", "{model}", "--tree", "--depth", "2", "--train"),
    ),
    ("inspect", "Every convolution, with its decision", ("inspect", "{model}")),
    ("targets", "Every target side by side", ("inspect", "{model}", "--to", "all")),
    (
        "diff",
        "A trained conversion beside its original",
        ("diff", "{model}", "trained.pt", "--trust", "--receptive-field"),
    ),
    (
        "fold",
        "The trained conversion, folded",
        ("fold", "trained.pt", "--trust", "--input", "2x3x96x96", "-o", "fast.pt2"),
    ),
)
"""File, title, and the command that makes it."""
MODEL = "sample_models/tiny_resnet.py:build"


def main() -> None:
    """Everything, into ``.docs/site``."""
    shutil.rmtree(WORK, ignore_errors=True)
    stage()
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=ROOT, check=True)
    problems = broken_links(SITE)
    for problem in problems:
        click.echo(problem, err=True)
    click.echo(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}, {len(problems)} broken links")
    sys.exit(bool(problems))


def stage(*, gallery: bool = True) -> None:
    """Puts all pages into ``.docs/pages``."""
    for file in DOCS.rglob("*"):
        place = PAGES / file.relative_to(DOCS)
        if file.suffix == ".md":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(without_outside_links(file), encoding="utf-8")
        elif file.suffix in (".png", ".svg", ".ipynb"):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    (PAGES / "reference").mkdir()
    (PAGES / "reference/commands.md").write_text(commands_page(), encoding="utf-8")
    (PAGES / "reference/api.md").write_text(api_page(), encoding="utf-8")
    for notebook in (DOCS / "notebooks").glob("*.ipynb"):
        (PAGES / "notebooks" / f"{notebook.stem}.md").write_text(notebook_page(notebook), encoding="utf-8")
    if gallery:
        make_gallery(PAGES / "gallery")
    (PAGES / "gallery.md").write_text(gallery_page(), encoding="utf-8")


def without_outside_links(file: Path) -> str:
    """A page whose links to files that are not on the site are their text alone."""

    def kept(match: re.Match[str]) -> str:
        path = (file.parent / match[2].partition("#")[0]).resolve()
        return match[0] if path.is_relative_to(DOCS) else match[1]

    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)", kept, file.read_text(encoding="utf-8"))


def commands_page() -> str:
    """``--help`` of every command."""
    parts = ["# Commands and their options\n\nWhat `--help` says, of every command."]
    settings: Any = {**cli.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    for name, command in [("", cli), *sorted(cli.commands.items())]:
        full = f"saconv-surgeon {name}".strip()
        with click.Context(command, info_name=full, **settings) as context:
            parts.append(f"## {full}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """Every public name, from its docstring: functions, then classes, then errors and warnings."""
    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors and warnings": []}
    for name in surgeon.__all__:
        value = getattr(surgeon, name)
        if isinstance(value, type):
            groups["Errors and warnings" if issubclass(value, (Exception, Warning)) else "Classes"].append(name)
        elif callable(value):
            groups["Functions"].append(name)
    parts = [
        "# Python interface\n\nEverything that `import saconv_surgeon as surgeon` offers: `surgeon.convert`, and so on."
    ]
    for title, names in groups.items():
        parts.append(f"## {title}")
        parts += [f"::: {_home(name)}.{name}" for name in sorted(names)]
    return "\n\n".join(parts) + "\n"


def _home(name: str) -> str:
    return str(getattr(surgeon, name).__module__)


def notebook_page(path: Path) -> str:
    """A notebook with the outputs that it was saved with."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed = "".join(each.text for each in cell.outputs if each.output_type == "stream" and each.name == "stdout")
        parts += [f"```text\n{printed.rstrip()}\n```"] if printed.strip() else []
    return "\n\n".join([*parts, f"[The notebook]({path.name})"]) + "\n"


def make_gallery(folder: Path) -> None:
    """Reports of all commands about a sample model, before and after it was trained."""
    folder.mkdir(parents=True)
    work = WORK / "gallery_work"
    work.mkdir()
    (work / "sample_models").symlink_to(ROOT / "sample_models")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name, _, command in GALLERY:
        if name == "diff":
            subprocess.run([sys.executable, "-m", "docs.train_sample"], cwd=work, env=environment, check=True)
        full = [sys.executable, "-m", "saconv_surgeon", *(part.format(model=MODEL) for part in command)]
        file = f"{name}.html"  # a relative path, since the report says by which command it was made
        subprocess.run([*full, "-q", "--report", file], cwd=work, env=environment, check=True)
        shutil.move(work / file, folder / file)


def gallery_page() -> str:
    """Links to the reports, each with the command that made it."""
    parts = ["# Gallery of reports", "Each is one file that needs nothing else, made when this site was built."]
    for name, title, command in GALLERY:
        line = " ".join(part.format(model=MODEL) for part in command)
        shown = f"```console\n$ saconv-surgeon {line} --report {name}.html\n```"
        parts.append(f"## {title}\n\n[Open the report](gallery/{name}.html)\n\n{shown}")
    return "\n\n".join(parts) + "\n"


class _Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.names |= {found[key] for key in ("id", "name") if key in found}
        address = found.get("href") or found.get("src")
        if address is None:
            return
        loads = tag in ("script", "img", "iframe") or (
            tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload")
        )
        (self.loaded if loads else self.links).append(address)
        if loads and not address.startswith("data:"):
            self.links.append(address)


def broken_links(site: Path) -> list[str]:
    """What leads nowhere on the built site, and what would be loaded from elsewhere."""
    pages = {file.resolve(): _Links(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    return [
        problem for file, page in pages.items() if file.name != "404.html" for problem in _problems(file, page, pages)
    ]


def _problems(file: Path, page: _Links, pages: dict[Path, _Links]) -> Iterable[str]:
    for address in page.loaded:
        if urlsplit(address).netloc:
            yield f"{file.name} loads {address}"
    for address in page.links:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        target = target / "index.html" if target.is_dir() else target
        if not target.exists():
            yield f"{file.name} links to {address}, which is not there"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
            yield f"{file.name} links to {address}, whose page has no such place"


if __name__ == "__main__":
    main()
