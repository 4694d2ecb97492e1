"""Which layers: each alone, and choices at a quarter of the price."""

from __future__ import annotations

from collections.abc import Mapping

from scipy.stats import spearmanr

from benchmarks.payoff.sections.wording import ALL_3
from benchmarks.payoff.tables import PERCENT, Results, markdown, text
from benchmarks.payoff.words import CHOICE_WORDS, PLANS, TASK_WORDS, run_tasks
from saconv_surgeon.comparing.paired_difference import Difference

RECIPE = "adamw-x3"
QUARTER = """\
Layers and parts are chosen so that the folded layers add at most a quarter of the latency that converting all of them adds; new
parts at ×3. On maps as small as these a layer's latency is mostly the number of its operations, so contexts are not as cheap here
as on larger maps ([performance.md](performance.md)). *Lead* is how much the first row gains over the others.

The default of `plan` is judged on seeds from 5 on alone. Three versions of it were tried on some of seeds 0 to 4 before it was
settled, beside the scores in the table: half as the score says and half evenly, with guessed shares of the parts; the same with
the shares of an earlier experiment; a third each by what layers gain together, alone, and evenly. What was settled on, contexts
first and a fifth of the say for the score, was not run on those. Five seeds left the intervals too wide to tell it from the other
choices, so more were run: from 10 to 15, and on classification to 20, numbers that were set when three of them were known."""


def single_layers(results: Results) -> list[str]:
    """For each task in which layers were converted one by one."""
    blocks = [block for task in run_tasks(results) for block in _alone(results, task)]
    return ["## Where?", *blocks] if blocks else []


def _alone(results: Results, task: str) -> list[str]:
    found: dict[str, tuple[Difference, float]] = {}
    for arm in sorted(arm for known, _, arm in results.cells if known == task and arm.startswith("only-")):
        gain, record = results.gain(task, RECIPE, arm), results.some(task, RECIPE, arm)
        if gain is not None:
            found[next(iter(record["chosen"]))] = (gain, record["macs_ratio"])
    if not found:
        return []
    costs = results.latency_shares(task)
    rows = [
        [f"`{path}`", text(gain), f"×{macs:.2f}", _share(costs.get(path)), str(gain.n)]
        for path, (gain, macs) in found.items()
    ]
    gains = [gain.mean for gain, _ in found.values()]
    whole = results.gain(task, *ALL_3)
    total = f"{sum(gains):+.1f}".replace("-", "−")
    return [
        f"One layer alone, whole, new parts at ×3, in the order of the network ({TASK_WORDS[task].heading.lower()}):",
        markdown(["layer", f"Δ {TASK_WORDS[task].measure}", "MACs", "of the latency that all add", "n"], rows),
        f"Together these single gains are {total} points; all layers at once bring {whole.text() if whole else '–'}. "
        f"{_rank_correlations(gains, list(found), costs)}",
    ]


def _rank_correlations(gains: list[float], paths: list[str], costs: Mapping[str, float]) -> str:
    if len(gains) < 3:
        return ""
    depth = float(spearmanr(gains, range(len(gains))).statistic)
    said = f"Rank correlation of a layer's gain with its depth: {depth:.2f}"
    if all(path in costs for path in paths):
        said += f"; with its price: {float(spearmanr(gains, [costs[path] for path in paths]).statistic):.2f}"
    return f"{said} ({len(gains)} layers, so these are rough).".replace("-", "−")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{PERCENT * value:.0f} %"


def budgets(results: Results) -> list[str]:
    """Choices at a quarter of the latency that everything adds."""
    blocks = []
    for task in run_tasks(results):
        names = [name for name in CHOICE_WORDS if results.has(task, RECIPE, f"{name}-quarter")]
        if names:
            whole = results.gain(task, *ALL_3)
            blocks += [
                f"### {TASK_WORDS[task].heading}: everything brings {text(whole)}",
                _choices(results, task, names),
            ]
    if not blocks:
        return []
    return [
        "## For a quarter of the price",
        QUARTER,
        *blocks,
    ]


def _choices(results: Results, task: str, names: list[str]) -> str:
    best = next((name for name in PLANS if name in names), None)
    rows = []
    for name in names:
        gain = results.gain(task, RECIPE, f"{name}-quarter")
        of_all = _share(results.share(task, (RECIPE, f"{name}-quarter"), ALL_3))
        leads = best is not None and name not in PLANS
        lead = results.between(task, (RECIPE, f"{name}-quarter"), (RECIPE, f"{best}-quarter")) if leads else None
        macs = results.mean(task, RECIPE, f"{name}-quarter", "macs_ratio")
        count = str(gain.n if gain else 0)
        rows.append([CHOICE_WORDS[name], text(gain), of_all, text(lead), f"×{macs:.2f}" if macs else "–", count])
    return markdown(["choice", f"Δ {TASK_WORDS[task].measure}", "of everything", "lead", "MACs", "n"], rows)
