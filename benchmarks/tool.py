"""What the tool itself costs: seeing, deciding and rewriting against one forward pass and against a bare swap of modules; the
memory of a conversion; how soon the command line answers.

    python -m benchmarks.tool

Everything that is compared in time is called in turn in one process on one thread. Memory is the resident set of a process of its
own. Needs torchvision. ``BENCHMARK_PRELOAD`` may name a module that every process imports first.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.recording import record
from saconv_surgeon import SAConv2d
from saconv_surgeon.models.census.census import Census, take_census
from saconv_surgeon.models.census.followers import add_context
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import Plan
from saconv_surgeon.surgery.decisions import Selection
from saconv_surgeon.surgery.inspect import make_plan
from saconv_surgeon.surgery.rewriting import apply

PRELOAD = os.environ.get("BENCHMARK_PRELOAD")
ROUNDS = 7
MANY = 1000
HEAVY = "torchvision:wide_resnet101_2"
GOALS = {"operation": 1.0, "many_s": 5.0, "memory": 1.25, "help_s": 0.3}
MEMORY = """
import gc, importlib, json, os, sys, threading
if os.environ.get("BENCHMARK_PRELOAD"):
    importlib.import_module(os.environ["BENCHMARK_PRELOAD"])
import psutil, torch
from saconv_surgeon import api
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.loading.model_spec import load_model
import saconv_surgeon.profiling.profile, saconv_surgeon.convs.targets.known_targets, fvcore.nn, torch.fx
torch.set_num_threads(1)
rss = psutil.Process().memory_info
x = torch.randn(1, 3, 224, 224)
api.convert(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval(), x)  # imports everything
class Peak(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.going = 0, True
    def run(self):
        while self.going:
            self.most = max(self.most, rss().rss)
            threading.Event().wait(0.001)
def peak(action):
    gc.collect()
    watch = Peak(); watch.start()
    result = action()
    watch.going = False; watch.join()
    return max(watch.most, rss().rss), result
empty = rss().rss
model = load_model(sys.argv[1]).module.eval()
weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
loaded = rss().rss
forward, _ = peak(lambda: Inputs.of(x).run(model))
convert, done = peak(lambda: api.convert(model, x))
after = sum(t.numel() * t.element_size() for t in done.model.state_dict().values())
found = {"before": weights, "after": after, "activations": forward - loaded, "peak": convert - empty}
print(json.dumps(found | {"converted": done.converted}))
"""


def main() -> None:
    """Measures everything and records it."""
    if PRELOAD:
        importlib.import_module(PRELOAD)
    torch.set_num_threads(1)
    resnet = importlib.import_module("torchvision").models.resnet50(weights=None).eval()
    found: dict[str, Any] = {}
    found["resnet50"] = timings(resnet, torch.randn(1, 3, 224, 224))
    told("ResNet-50, 1×3×224×224", found["resnet50"])
    found["many"] = timings(chain(MANY), torch.randn(1, 8, 8, 8), rounds=3)
    told(f"{MANY} convolutions", found["many"])
    found["memory"] = memory(HEAVY)
    found["help_s"] = answer_s("--help")
    found["fold_help_s"] = answer_s("fold", "--help")
    measured = {
        "operation": found["resnet50"]["operation_s"] / found["resnet50"]["forward_s"],
        "many_s": found["many"]["operation_s"],
        "memory": found["memory"]["factor"],
        "help_s": found["help_s"],
    }
    m = found["memory"]
    gib = {name: m[name] / 2**30 for name in ("before", "after", "activations", "peak")}
    print(
        f"convert {HEAVY}: peak {gib['peak']:.2f} GiB; weights {gib['before']:.2f} before, {gib['after']:.2f} after, "
        f"activations {gib['activations']:.2f}"
    )
    for name, value in measured.items():
        met = value <= GOALS[name]
        print(f"{name}: {value:.3f}  (goal ≤ {GOALS[name]:g}: {'met' if met else 'MISSED'})")
    print(f"recorded in {record('tool', {'measured': measured, 'goals': GOALS, 'found': found})}")


def timings(model: nn.Module, x: torch.Tensor, rounds: int = ROUNDS) -> dict[str, float]:
    """Medians in seconds of a forward pass, the census, the rest of inspecting, planning, rewriting, and of a bare swap."""
    inputs = Inputs.of(x)
    census = take_census(model, inputs)
    plan = planned(model, census)
    parts: dict[str, Callable[[], Any]] = {
        "forward_s": lambda: inputs.run(model),
        "census_s": lambda: take_census(model, inputs),
        "trace_s": lambda: add_context(model, census),
        "plan_s": lambda: planned(model, census, add=False),
        "rewrite_s": lambda: apply(model, plan),
        "copy_s": lambda: copy.deepcopy(model),
        "bare_swap_s": lambda: bare_swap(model, plan.converted_paths),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            begin = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - begin)
    result = {name: median(values) for name, values in seconds.items()}
    result["operation_s"] = result["trace_s"] + result["plan_s"] + result["rewrite_s"]
    result["converted"] = len(plan.converted_paths)
    return result


def planned(model: nn.Module, census: Census, *, add: bool = True) -> Plan:
    """The plan that converts everything that can be."""
    sites = add_context(model, census) if add else census.sites
    return make_plan(model, sites, census, target="saconv", selection=Selection(), image_size=None)


def bare_swap(model: nn.Module, paths: tuple[str, ...]) -> nn.Module:
    """What a user would write: copy, walk, build, load; nothing is looked at, decided or proved."""
    copied = copy.deepcopy(model)
    wanted = set(paths)
    for path, conv in list(copied.named_modules()):
        if path in wanted and isinstance(conv, nn.Conv2d):
            layer = SAConv2d(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,
                conv.stride,
                conv.padding,
                conv.dilation,
                conv.groups,
                conv.bias is not None,
                conv.padding_mode,
            )
            layer.load_state_dict(conv.state_dict(), strict=False)
            copied.set_submodule(path, layer)
    return copied


def chain(n: int) -> nn.Module:
    """``n`` convolutions, each with its norm and activation, one behind the other."""
    parts = [(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(n)]
    return nn.Sequential(*(part for parts_of_one in parts for part in parts_of_one)).eval()


def told(name: str, t: dict[str, float]) -> None:
    """A few lines of seconds."""
    parts = " + ".join(f"{part} {t[f'{part}_s']:.3f}" for part in ("trace", "plan", "rewrite"))
    print(f"{name}: forward {t['forward_s']:.3f} s · census {t['census_s']:.3f} s")
    print(f"  {parts} = {t['operation_s']:.3f} s for {t['converted']} layers")
    print(f"  bare swap {t['bare_swap_s']:.3f} s, of which copying the model {t['copy_s']:.3f} s", flush=True)


def memory(spec: str) -> dict[str, float]:
    """Bytes of a conversion in a process of its own; ``factor`` = (peak - activations) / (weights before + after)."""
    done = subprocess.run([sys.executable, "-c", MEMORY, spec], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    found["factor"] = (found["peak"] - found["activations"]) / (found["before"] + found["after"])
    return found


def answer_s(*arguments: str) -> float:
    """Seconds until the command line has answered: the median of eleven."""
    seconds = []
    for _ in range(11):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "saconv_surgeon", *arguments], capture_output=True, check=True)
        seconds.append(time.perf_counter() - begin)
    return median(seconds)


if __name__ == "__main__":
    main()
