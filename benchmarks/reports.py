"""What reports cost: the diff of two saved ones as a whole process, and an HTML report of a thousand layers in Chromium.

    python -m benchmarks.reports

Needs playwright and chromium. The processes run in turn: Python alone, which is the floor, the diff, and it with an HTML report.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median

import saconv_surgeon as surgeon
from benchmarks.recording import record
from saconv_surgeon.profiling.roofline.layers_under_roofs import roofline_of
from saconv_surgeon.records import (
    CopySpeed,
    Diff,
    LayerCost,
    LayerPair,
    Peaks,
    Profile,
    ReceptiveField,
    ShownImage,
    StageField,
    SwitchMap,
    to_dict,
)
from saconv_surgeon.report.commands.diff import diff_report
from saconv_surgeon.report.formats import FORMATS
from sample_models import tiny_resnet

ROUNDS = 15
LAYERS = 1000
SEEDS = 30
"""Different maps."""
GOALS = {"diff_s": 0.5, "open_s": 1.0, "sort_s": 1.0, "megabytes": 2.0}


def main() -> None:
    """Runs both and records them."""
    found = {"rounds": ROUNDS, **processes(), **in_the_browser()}
    for name, goal in GOALS.items():
        print(f"{name}: {found[name]:.3g} (goal {goal:g})")
    print(f"Python alone: {found['python_s']:.2f} s, with an HTML report: {found['diff_html_s']:.2f} s")
    print(f"recorded in {record('reports', found | {'goals': GOALS})}")


def processes() -> dict[str, float]:
    """Medians of whole processes, in seconds."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for file, depth in (("a.json", 1), ("b.json", 2)):
            profile = surgeon.profile(tiny_resnet.build(depth=depth), tiny_resnet.example_inputs(), timing=None)
            (work / file).write_text(json.dumps(to_dict(profile)))
        diff = ["-m", "saconv_surgeon", "diff", "a.json", "b.json"]
        commands = {"python_s": ["-c", "pass"], "diff_s": diff, "diff_html_s": [*diff, "--report", "out.html"]}
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, arguments in commands.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *arguments], cwd=work, check=True, capture_output=True)
                taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}


def in_the_browser() -> dict[str, float]:
    """Medians over fresh pages: from the start of loading to its end, and from a click on a column to the next frame."""
    from playwright.sync_api import sync_playwright  # only here: a test asks for the report alone

    source = FORMATS[".html"].render(diff_report(large(), every_row=False))
    opened, sorted_ = [], []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        file = Path(name) / "large.html"
        file.write_text(source, encoding="utf-8")
        path = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(ROUNDS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(file.as_uri())
            painted = (
                "() => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
            )
            opened.append(page.evaluate(painted) / 1000)
            sorted_.append(page.evaluate(SORT) / 1000)
            page.close()
        browser.close()
    return {"open_s": median(opened), "sort_s": median(sorted_), "megabytes": len(source.encode()) / 1e6}


SORT = """
() => new Promise(done => {
  const start = performance.now();
  [...document.querySelectorAll("#table thead button")].find(b => b.textContent.startsWith("MACs B")).click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})
"""


def large() -> Diff:
    """A thousand layers, all of which changed and have a switch, with every picture that a report can have."""

    def side(name: str, scale: int) -> Profile:
        rows = tuple(
            LayerCost(
                f"backbone.stage{i // 50}.block{i // 5 % 10}.conv{i % 5}",
                "Conv2d",
                9216,
                scale * 10**6 * (1 + i % 7),
                scale * 2 * 10**6,
                50_000,
                1,
                409_600,
                1,
                1e-4 * (1 + i % 11),
            )
            for i in range(LAYERS)
        )
        return Profile(
            name, 9216 * LAYERS, 9216 * LAYERS, 10**9, 2 * 10**9, None, 50_000 * LAYERS, {}, None, None, rows
        )

    a, b = (with_pictures(each) for each in (side("a", 1), side("b", 2)))
    maps = tuple(SwitchMap(row.path, 0.5, 0.5, (56, 56), _noise(32, i % SEEDS)) for i, row in enumerate(a.layers))
    return Diff(
        a,
        b,
        (),
        layers=tuple(LayerPair(row.path, row.path, "changed") for row in a.layers),
        image=ShownImage("noise.png", "as it is", _noise(112, -1)),
        switches_a=maps,
        switches_b=maps,
    )


def with_pictures(profile: Profile) -> Profile:
    """Everything that a page can show of it besides: the roofline, and fields of five stages."""
    peaks = Peaks("cpu", "float32", 1, 1e11, "a product", (CopySpeed(10**5, 5e10), CopySpeed(10**8, 1e10)), 1.0)
    stages = tuple(StageField(f"stage{i}", 2**i, (9, 9), False, 5.0, _noise(48, i)) for i in range(1, 6))
    return replace(
        profile, roofline=roofline_of(profile.layers, peaks), receptive_field=ReceptiveField(stages, (224, 224))
    )


@cache
def _noise(side: int, seed: int) -> tuple[tuple[float, ...], ...]:
    """What compresses worst."""
    draw = random.Random(seed)
    return tuple(tuple(round(draw.random(), 2) for _ in range(side)) for _ in range(side))


if __name__ == "__main__":
    main()
