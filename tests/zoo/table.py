"""Makes ``docs/zoo.md`` of what ``make zoo`` found: ``python -m tests.zoo.table RESULTS docs/zoo.md``."""

import importlib.metadata
import json
import sys
from collections import Counter
from pathlib import Path

import torch

PACKAGES = {
    "timm": "timm",
    "torchvision": "torchvision",
    "ultralytics": "ultralytics",
    "transformers": "transformers",
    "smp": "segmentation-models-pytorch",
}
REASONS = {
    "kernel-1x1": "1×1",
    "depthwise": "depthwise",
    "subclass": "subclass",
    "not-conv2d": "not Conv2d",
    "never-ran": "never ran",
    "functional": "functional",
}

INTRODUCTION = """# Real models

Made by `make zoo`; do not edit. Every model is built by the library that publishes it, under the name that the command
line takes (`saconv-surgeon convert timm:resnet50 …`), with random weights and with random statistics and affine parameters in
every norm. For each of them:

* every convolution module has a row, with as many calls as plain forward hooks count; converted and refused add up; every refusal
  has a reason;
* the outputs of the converted model equal the original's on two inputs, compared by the tool and once more outside it, and they
  hold finite values that differ;
* for the first model of each family, all that surgery added is then moved: the outputs do change, the converted layers (in large
  models the cheaper ones) equal a float64 version written from the equations, on the inputs that they really see in the model,
  and a backward pass gives every new parameter a finite gradient.
"""

PROGRAMS = """## As exported programs

The same for models that were exported to a `.pt2` file, with a batch of two that is left open where the model allows it. The
command line converts that file to another; what torch alone loads from it gives, to the bit, what the original model gives on
two batches.
"""


TRAINED = """## Trained weights that packages bring along

Converted (depthwise ones too) without a change in any output; folded back to the original, to the bit; folded after every part of
every layer was moved; told apart by `diff`. `tests/zoo/trained_models.py` says which packages to install.
"""


def main(results, target):
    rows, exported = rows_of(results, "models"), rows_of(results, "programs")
    if not rows:
        sys.exit(f"no results in {results}: are the libraries installed?")
    good = [row for row in rows if "error" not in row]
    parts = [
        INTRODUCTION,
        versions(),
        summary(good, rows),
        *problems(rows + exported),
        *programs(exported),
        *trained(rows_of(results, "trained")),
        details(good),
    ]
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text("\n".join(parts), encoding="utf-8")


def rows_of(results, kind):
    return [json.loads(path.read_text()) for path in sorted((Path(results) / kind).glob("*.json"))]


def versions():
    found = [f"torch {torch.__version__}"]
    for package in PACKAGES.values():
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"With {', '.join(found)}, in float32 on the CPU.\n"


def summary(good, rows):
    other = sorted({code for row in good for code in row["refused"]} - set(REASONS))
    header = ["library", "models", "families", "failed", "executed", "never ran", "converted"]
    header += [f"refused: {REASONS.get(code, code)}" for code in [*REASONS, *other] if code != "never-ran"]
    header += ["bit-identical", "largest error", "layers against float64", "largest"]
    lines = [line(header), line(["---"] + ["---:"] * (len(header) - 1))]
    for library in [*PACKAGES, None]:
        mine = [row for row in good if library in (None, row["library"])]
        tried = [row for row in rows if library in (None, row["library"])]
        if not tried:
            continue
        refused = sum((Counter(row["refused"]) for row in mine), Counter())
        deep = [row for row in mine if row.get("oracle_layers")]
        families = {(row["library"], row["family"]) for row in mine}
        lines.append(
            line(
                [
                    library or "**all**",
                    len(tried),
                    len({family for _, family in families}),
                    len(tried) - len(mine),
                    sum(row["executed"] for row in mine),
                    sum(row["never_ran"] for row in mine),
                    sum(row["converted"] for row in mine),
                    *(refused[code] for code in [*REASONS, *other] if code != "never-ran"),
                    sum(row["bit_equal"] for row in mine),
                    f"{max((row['max_rel'] or 0 for row in mine), default=0):.1e}",
                    sum(row["oracle_layers"] for row in deep),
                    f"{max((row['oracle_error'] for row in deep), default=0):.1e}",
                ]
            )
        )
    return (
        "\n".join(lines)
        + "\n\nThe families of different libraries that share a name are counted once in the last row.\n"
    )


def problems(rows):
    broken = [row for row in rows if "error" in row]
    noisy = [row for row in rows if not row.get("deterministic", True)]
    moved = [row for row in rows if row.get("deterministic") and not row["bit_equal"]]
    if broken:
        yield (
            "## Failures\n\n"
            + "\n".join(f"* `{row['model']}`: {row['error'].splitlines()[0]}" for row in broken)
            + "\n"
        )
    if moved:
        yield (
            "## Not to the bit\n\n"
            + "\n".join(f"* `{row['model']}`: {row['max_rel']:.1e} relative" for row in moved)
            + "\n"
        )
    if noisy:
        text = [
            f"* `{row['model']}`: moves by {row['noise_max_rel'] or 0:.1e} by itself, by {row['max_rel'] or 0:.1e} converted"
            for row in noisy
        ]
        yield "## Not deterministic by themselves\n\n" + "\n".join(text) + "\n"


def programs(rows):
    good = [row for row in rows if "error" not in row]
    if not good:
        return
    yield PROGRAMS
    lines = [
        line(["library", "model", "executed", "converted", "open sizes"]),
        line(["---", "---", "---:", "---:", "---:"]),
    ]
    for row in sorted(good, key=lambda r: (list(PACKAGES).index(r["library"]), r["model"])):
        cells = [row["library"], f"`{row['model']}`", row["executed"], row["converted"], row["open_sizes"] or "none"]
        lines.append(line(cells))
    yield "\n".join(lines) + "\n"


def trained(rows):
    if not rows:
        return
    yield TRAINED
    lines = [line(["model", "executed", "converted", "bit-identical", "folded after moving, largest error"])]
    lines += [line(["---", "---:", "---:", "---", "---:"])]
    for row in rows:
        cells = [row["model"], row["executed"], row["converted"], "yes" if row["bit_equal"] else "no"]
        lines.append(line([*cells, f"{row['folded_max_rel'] or 0:.1e}"]))
    yield "\n".join(lines) + "\n"


def details(good):
    lines = ["## Every model\n"]
    lines += [
        line(
            [
                "library",
                "model",
                "family",
                "executed",
                "converted",
                "seen in a graph",
                "refused",
                "largest error",
                "backward in",
            ]
        )
    ]
    lines += [line(["---", "---", "---", "---:", "---:", "---:", "---", "---:", "---"])]
    for row in sorted(good, key=lambda r: (list(PACKAGES).index(r["library"]), r["family"], r["model"])):
        refused = ", ".join(f"{n} {REASONS.get(code, code)}" for code, n in sorted(row["refused"].items()))
        error = "0" if row["bit_equal"] else f"{row['max_rel']:.1e}"
        cells = [
            row["library"],
            f"`{row['model']}`",
            row["family"],
            row["executed"],
            row["converted"],
            row["found_by_fx"],
        ]
        lines.append(line([*cells, refused, error, row.get("training", "")]))
    return "\n".join(lines) + "\n"


def line(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main(*sys.argv[1:])
