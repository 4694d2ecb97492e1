"""Asked latency, promised latency, and latency in another process: plans for real models at three budgets.

    python -m benchmarks.promises              # what is missing in results/promises.json
    python -m benchmarks.promises --page       # docs/promises.md from it

For each model one process prices its layers, chooses by random gains (a promise does not depend on what gains are about), times
the plans and writes them; then another process reads the plans, converts, moves and folds, and times each against the original.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import saconv_surgeon as surgeon
from benchmarks.recording import RESULTS
from saconv_surgeon.models.loading.input_spec import make_inputs, offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.planning.budgets import parse_budget
from saconv_surgeon.planning.candidates import candidates_of_targets, offer, with_choices
from saconv_surgeon.planning.figures import Measuring
from saconv_surgeon.planning.paired_clock import PairedClock
from saconv_surgeon.planning.prices import price_candidates
from saconv_surgeon.planning.timed_promise import Priced, WholeTimer, solve_promised
from saconv_surgeon.planning.variants import Variants, move
from saconv_surgeon.profiling.environment import conditions
from saconv_surgeon.records import from_dict, to_dict
from saconv_surgeon.records.conversion import Plan
from saconv_surgeon.surgery.rewriting import apply

BUDGETS = (1.1, 1.3, 2.0)
DRAWS = 4
"""Of the measurement in the other process, two seconds each."""
MODELS = """
sample_models/tiny_resnet.py:build sample_models/tiny_unet.py:build sample_models/tiny_yolo.py:build
sample_models/tiny_segmenter.py:build
timm:resnet18@1x3x160x160 timm:resnet50@1x3x160x160 timm:densenet121@1x3x128x128 timm:dla34@1x3x160x160
timm:hrnet_w18_small@1x3x160x160 timm:ese_vovnet19b_slim@1x3x160x160 timm:selecsls42@1x3x160x160
timm:cs3darknet_focus_s@1x3x160x160 timm:resnet26d@1x3x160x160 timm:res2net50_14w_8s@1x3x160x160
timm:hgnet_tiny@1x3x160x160 timm:regnetx_002@1x3x160x160
torchvision:resnet34@1x3x160x160 torchvision:vgg11@1x3x96x96 torchvision:googlenet@1x3x160x160
torchvision:squeezenet1_1@1x3x160x160 torchvision:fcn_resnet50@1x3x128x128
ultralytics:yolov8n.yaml@1x3x224x224 ultralytics:yolo11n.yaml@1x3x224x224 ultralytics:yolov5nu.yaml@1x3x224x224
ultralytics:yolov8n-seg.yaml@1x3x224x224
smp:Unet(encoder_name="resnet18",encoder_weights=None)@1x3x128x128
smp:FPN(encoder_name="resnet18",encoder_weights=None)@1x3x160x160
smp:Linknet(encoder_name="resnet18",encoder_weights=None)@1x3x160x160
smp:Unet(encoder_name="mobilenet_v2",encoder_weights=None)@1x3x128x128
""".split()
RESULT, PAGE = RESULTS / "promises.json", Path(__file__).parents[1] / "docs" / "promises.md"


class RandomGains:
    """Gains that add up and say nothing; the whole layer gains a little less than its parts together."""

    def __init__(self, paths: Iterator[str] | list[str], seed: int) -> None:
        draw = random.Random(seed)
        self.gains = {}
        for path in paths:
            contexts, branches = draw.expovariate(1), draw.expovariate(1)
            self.gains[path] = {"contexts": contexts, "branches": branches, "all": 0.8 * contexts + branches}

    def of(self, chosen: Mapping[str, str]) -> float:
        """The sum."""
        return sum(self.gains[path][name] for path, name in chosen.items())

    def beside(self, chosen: Mapping[str, str], path: str, name: str) -> float:
        """The same beside whatever."""
        return self.gains[path][name]


def opened(entry: str) -> tuple[nn.Module, Inputs]:
    """A model with the same random weights in every process, and its inputs."""
    spec, _, size = entry.partition("@")
    torch.manual_seed(0)
    loaded = load_model(spec)
    given = make_inputs((size,), seed=0) if size else offered_inputs(loaded)
    return loaded.module.eval(), Inputs.of(given)


def plan_all(entry: str, folder: Path) -> dict[str, Any]:
    """A plan for each budget in ``folder``, and what was promised."""
    begin = time.perf_counter()
    model, inputs = opened(entry)
    variants = Variants(model, inputs, offer(model, inputs, candidates_of_targets(["saconv"])))
    measuring = Measuring.of(variants)
    budgets = {limit: parse_budget(f"latency<{limit}x") for limit in BUDGETS}
    wholes = WholeTimer(measuring, list(budgets.values()))
    prices = price_candidates(variants, on_whole=wholes)
    gains = RandomGains(list(prices), seed=0)
    spent = time.perf_counter() - begin
    found: dict[str, Any] = {"layers": len(prices), "pricing_s": round(spent, 1), "budgets": {}}
    for limit, budget in budgets.items():
        begin = time.perf_counter()
        priced = Priced.of(prices, [budget], measuring).calibrated(wholes.timings)
        answer = solve_promised(priced, gains, measuring)
        plan = with_choices(variants.offered.plan, variants.choices(answer.chosen))
        (folder / f"{limit}.json").write_text(json.dumps(to_dict(plan)), encoding="utf-8")
        names = list(answer.chosen.values())
        found["budgets"][str(limit)] = {
            "chosen": {name: names.count(name) for name in sorted(set(names))},
            "everything": answer.chosen == variants_of_all(gains),
            "rounds": answer.rounds,
            "seconds": round(time.perf_counter() - begin, 1),
            "promise": to_dict(answer.promises[0]),
        }
    return found


def variants_of_all(gains: RandomGains) -> dict[str, str]:
    """For each layer what gains most, as if nothing cost anything."""
    return {path: max(own, key=own.__getitem__) for path, own in gains.gains.items()}


def measure_all(entry: str, folder: Path) -> dict[str, Any]:
    """The ratio of each plan's folded model to the original, in this process."""
    model, inputs = opened(entry)
    found = {}
    for limit in BUDGETS:
        plan = from_dict(Plan, json.loads((folder / f"{limit}.json").read_text(encoding="utf-8")))
        converted = apply(model, plan)
        move(converted, seed=1)
        folded = surgeon.fold(converted, inputs, trials=1).model if plan.converted_paths else converted
        found[str(limit)] = to_dict(PairedClock(model, inputs).pairs(folded, "latency", draws=DRAWS).ratio)
    return found


def in_process(step: str, entry: str, folder: Path) -> dict[str, Any]:
    """What one of the two steps gives in a process of its own."""
    out = folder / f"{step}.json"
    command = [sys.executable, "-m", "benchmarks.promises", step, entry, str(folder), str(out)]
    subprocess.run(command, check=True)
    read: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return read


def run_missing(entries: list[str]) -> None:
    """Runs the models that have no results yet, one after the other."""
    for entry in entries:
        done = results()
        if entry in done["models"]:
            continue
        print(entry, flush=True)
        with tempfile.TemporaryDirectory() as name:
            try:
                found = in_process("plan", entry, Path(name))
                found["measured"] = in_process("measure", entry, Path(name))
            except subprocess.CalledProcessError as error:
                print(f"{entry} failed: {error}", flush=True)
                continue
        done = results()
        done["models"][entry] = found
        RESULT.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        write_page(done)


def results() -> dict[str, Any]:
    """Those so far, with the circumstances of this machine."""
    if RESULT.exists():
        read: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
        return read
    return {"environment": conditions(torch.device("cpu")), "threads": torch.get_num_threads(), "models": {}}


def write_page(done: Mapping[str, Any]) -> None:
    """``docs/promises.md``."""
    rows, kept, total = [], 0, 0
    for entry, found in done["models"].items():
        for limit, own in found["budgets"].items():
            promise, measured = own["promise"], found["measured"][limit]
            holds = measured["median"] <= 1.03 * float(limit)
            kept, total = kept + holds, total + 1
            chosen = ", ".join(f"{n} {name}" for name, n in own["chosen"].items()) or "nothing"
            promised = f"{promise['found']:.3f}" + ("" if promise["kept"] else " (not kept)")
            shown = f"{measured['median']:.3f} ({measured['low']:.3f}–{measured['high']:.3f})"
            mark = "yes" if holds else "**no**"
            rows.append(
                f"| {entry} | {found['layers']} | {limit} | {chosen} | {own['rounds']} | {promised} | {shown} | {mark} |"
            )
    environment = done["environment"]
    text = f"""# Promised latency

Made by `python -m benchmarks.promises`; do not edit. For each model and budget, `latency<…x`: what was chosen (by random gains: a
promise does not depend on what the gains are about), how often plans were timed until a promise held, the ratio that it was
promised with, and the ratio that another process measured: the plan read from a file, the new parameters moved off zero, the
model folded, timed in turn with the original as it is, with the 95 % interval. It holds if that is at most 3 % above the budget.

{kept} of {total} hold, on {len(done["models"])} models. {environment.get("device_name")}, {done["threads"]} thread, torch
{environment.get("torch")}; other work ran on the machine at the same time, so rounds in which a run had to wait for the processor
were left out, or the time of the processor itself was taken.

| model | layers | asked | chosen | timed | promised | measured | holds |
| --- | ---: | ---: | --- | ---: | ---: | ---: | --- |
"""
    PAGE.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """All models, one, the page, or one of the two steps."""
    if arguments[:1] in (["plan"], ["measure"]):
        step, entry, folder, out = arguments
        made = (plan_all if step == "plan" else measure_all)(entry, Path(folder))
        Path(out).write_text(json.dumps(made), encoding="utf-8")
    elif arguments == ["--page"]:
        write_page(results())
    else:
        run_missing(arguments or MODELS)


if __name__ == "__main__":
    main(sys.argv[1:])
