"""Makes ``docs/counts.md``: ``python -m tests.zoo.counts_table docs/counts.md``."""

import importlib.metadata
import sys
import warnings
from pathlib import Path

import torch

from tests.zoo.counted import MISSED_BY_THE_COUNTER, PUBLISHED, SAMPLES, check

INTRODUCTION = """# Counts

Made by `make counts`; do not edit. Every model at the inputs that come with it (batch included), random weights, eval mode. For
each row the command that made this table has checked that

* parameters equal `sum(p.numel() for p in model.parameters())`;
* MACs equal half of what torch's own `FlopCounterMode` says by itself, with attention taken apart into its two products
  (`sdpa_kernel(SDPBackend.MATH)`, fast path off), *to the integer*; if that counter gives nothing for an operation, the note
  says which, and the difference is counted by hand;
* "fvcore" is to the integer what plain fvcore prints;
* those marked ✓ equal a count by hand, from the paper's table of layers (`tests/profiling/counting/by_hand.py`);
* the rows of the layers add up to the totals: parameters, MACs, FLOPs, activations, launched operations, bytes;
* no operation is left uncounted.

"Engines" says whether fvcore, which counts on a trace, and `FlopCounterMode` with this project's table of operations, which
counts what is carried out, agree on MACs, FLOPs and activations. Where they do not, what is carried out is reported, and why.

"""
HEAD = """| model | parameters | MACs | FLOPs | fvcore | ops | bytes moved | by hand | engines |
|---|--:|--:|--:|--:|--:|--:|:-:|---|"""
ALIKE = "equal"


def main(target):
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    rows = [check(spec) for spec in (*SAMPLES, *PUBLISHED)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "fvcore", "torchvision", "timm")]
    body = "\n".join(map(line, rows))
    hands = sum(row["by_hand"] for row in rows)
    alike = sum(row["agrees"] for row in rows)
    summary = f"{len(rows)} models, {hands} of them counted by hand; both engines agree on {alike}.\n"
    summary += f"With {', '.join(versions)}.\n\n"
    Path(target).write_text(INTRODUCTION + summary + HEAD + "\n" + body + "\n", encoding="utf-8")


def line(row):
    notes = [ALIKE if row["agrees"] else row["note"].removeprefix("counted by FlopCounterMode: ")]
    if row["missed"]:
        notes.append(f"torch's counter misses {row['missed']:,}: {MISSED_BY_THE_COUNTER[row['spec']][1]}")
    figures = [row[name] for name in ("parameters", "macs", "flops", "fvcore_flops", "ops", "bytes_moved")]
    cells = [f"`{row['spec']}`", *("n/a" if figure is None else f"{figure:,}" for figure in figures)]
    return "| " + " | ".join([*cells, "✓" if row["by_hand"] else "", "; ".join(notes)]) + " |"


if __name__ == "__main__":
    main(sys.argv[1])
