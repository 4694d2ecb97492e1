"""The documentation site: ten questions answered from its front page, pages in its menu, links, and what it loads."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("nbformat", reason="nbformat is not installed")
from docs import site

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SIZES = [(1440, "light"), (820, "dark"), (390, "light"), (390, "dark")]
MADE = {"reference/commands.md", "reference/api.md", "gallery.md"}


def test_ten_questions_are_answered_one_click_away():
    front = (DOCS / "index.md").read_text(encoding="utf-8").partition("## Ten questions")[2].partition("\n## ")[0]
    questions = re.split(r"^\d+\. ", front, flags=re.MULTILINE)[1:]
    assert len(questions) == 10
    for question in questions:
        links = re.findall(r"\]\(([^)#]+)", question)
        assert "?" in question
        assert links
        assert all((DOCS / link).exists() or link in MADE for link in links), question


def menu(entries):
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from menu(value)


def test_every_page_is_in_the_menu_once():
    settings = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    written = {file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")}
    notebooks = {f"notebooks/{file.stem}.md" for file in (DOCS / "notebooks").glob("*.ipynb")}
    found = list(menu(settings["nav"]))
    assert sorted(found) == sorted(written | notebooks | MADE)


def test_the_pages_that_are_made_name_everything():
    import saconv_surgeon as surgeon
    from saconv_surgeon.cli import cli

    commands, api = site.commands_page(), site.api_page()
    assert all(f"\n## saconv-surgeon {name}\n" in commands for name in cli.commands)
    assert max(map(len, commands.splitlines())) <= 80
    for name in surgeon.__all__:
        if callable(getattr(surgeon, name)):
            assert re.search(rf"^::: .*\.{name}$", api, re.MULTILINE), name
    look = site.notebook_page(DOCS / "notebooks/where_layers_look.ipynb")
    assert "equal to the bit: True" in look  # it was saved with what it printed


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="c.html">3</a><a href="#top">4</a>'
        '<script src="https://elsewhere.example/x.js"></script><img src="d.png"><a href="https://elsewhere.example">5</a>'
    )
    (tmp_path / "b.html").write_text('<h2 id="here"></h2><a href="a.html">back</a>')
    assert site.broken_links(tmp_path) == [
        "a.html loads https://elsewhere.example/x.js",
        "a.html links to b.html#gone, whose page has no such place",
        "a.html links to c.html, which is not there",
        "a.html links to d.png, which is not there",
    ]


def test_links_out_of_the_site_become_text(tmp_path):
    text = site.without_outside_links(DOCS / "targets.md")
    assert "](../" not in text
    assert "](targets/refconv.md)" in text


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site without its gallery, whose reports have tests of their own."""
    pytest.importorskip("zensical", reason="zensical is not installed")
    work = tmp_path_factory.mktemp("site")
    settings = (ROOT / "zensical.toml").read_text().replace('paths = ["."]', f"paths = ['{ROOT}']")
    (work / "zensical.toml").write_text(settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "PAGES", work / ".docs/pages")
        site.stage(gallery=False)
    (work / ".docs/pages/gallery").mkdir()
    for name, _, _ in site.GALLERY:
        (work / f".docs/pages/gallery/{name}.html").write_text("a report")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return work / ".docs/site"


def test_the_site_is_built_and_every_link_leads_somewhere(built):
    assert site.broken_links(built) == []
    assert "restore" in (built / "reference/api.html").read_text(encoding="utf-8")
    assert len(list(built.rglob("*.html"))) > 40


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_pages_fit_and_load_nothing_from_elsewhere(built, width, scheme):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in ("index", "tutorial", "payoff", "reference/api", "reference/commands", "targets", "gallery"):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            troubles = []
            page.on("pageerror", lambda error, into=troubles: into.append(str(error)))
            page.on("request", lambda each, into=troubles: each.url.startswith("http") and into.append(each.url))
            page.goto((built / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.body.dataset.mdColorScheme") == ("slate" if scheme == "dark" else "default")
            page.close()
            assert troubles == []
        browser.close()


@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", ())}
    assert kinds <= {"stream", "execute_result", "display_data"}
