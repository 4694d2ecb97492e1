"""Two models priced side by side."""

import io
from dataclasses import replace

from rich.console import Console

from saconv_surgeon.records import (
    LatencyRatio,
    Priced,
)
from saconv_surgeon.report.formats import terminal
from saconv_surgeon.report.sections.cost_of_two import cost_of_two
from tests.report.sections.records_by_hand import LATENCY, PROFILE, STEP

RATIO = LatencyRatio(1.5, 1.4, 1.6, "slower", 50, 0.02, batch=1)


def both(priced, width=100):
    out = Console(width=width, record=True, file=io.StringIO())
    for block in cost_of_two(priced, ("A", "B")):
        out.print(terminal.drawn(block, width), highlight=False)
    return " ".join(out.export_text().split())


def test_two_models_with_a_sweep_and_training():
    slow = replace(LATENCY, median_s=0.015)
    first = replace(PROFILE, latencies=(LATENCY, replace(LATENCY, batch=8)), training=STEP)
    second = replace(PROFILE, latencies=(slow, replace(slow, batch=8)), training=STEP)
    ratios = (RATIO, replace(RATIO, batch=8, median=1.0, verdict="same"))
    text = both(Priced(first, second, ratios, replace(RATIO, median=1.2)))
    assert "latency, batch 1 10 ms 15 ms ×1.5" in text
    assert "latency, batch 8 10 ms 15 ms ×1" in text
    assert "Slower at batch 1: ×1.5, 95 % interval 1.4–1.6, 50 alternating pairs, noise floor ±2.0 %" in text
    assert "Same at batch 8" in text
    assert "Slower in training: ×1.2" in text
    assert "saved for backward 5 MiB 5 MiB =" in text


def test_few_pairs_are_given_with_their_range():
    few = replace(RATIO, n=9, verdict="inconclusive")
    text = both(Priced(PROFILE, PROFILE, (few,), replace(few, n=3)))
    assert "Inconclusive: ×1.5, range of 9 pairs 1.4–1.6, 9 alternating pairs" in text
    assert "Inconclusive in training: ×1.5, range of 3 pairs 1.4–1.6" in text
    assert "95 %" not in text
    assert "95 % interval" in both(Priced(PROFILE, PROFILE, (replace(few, n=10),)))
