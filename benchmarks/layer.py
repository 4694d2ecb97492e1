"""The layer beside its floor and beside the published order: time, and the memory that training keeps.

    python -m benchmarks.layer [SHAPE …]

For each shape of the grid and batches of 1 and 16: the original convolution, the layer's two convolutions alone (nothing can be
faster that computes both), the published order of operations, the layer, the folded layer with everything alive and without
contexts, the folded one compiled, and the folded layers with contexts or branches alone. All are called in turn, every round in
another order, in one process; medians are compared.
On one CPU thread in float32; on a CUDA device, where there is one, in float32 and in bfloat16 with channels_last as well.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.recording import record
from saconv_surgeon import SAConv2d
from saconv_surgeon.convs.folded import FoldedSAConv2d
from saconv_surgeon.convs.geometry import settings_of
from saconv_surgeon.convs.saconv_parts import Parts
from saconv_surgeon.models.running.state import exact_convolutions
from tests import oracle, published

GRID = {
    "64 @ 56²": (64, 56, 1, 1),
    "128 @ 28²": (128, 28, 1, 1),
    "256 @ 14²": (256, 14, 1, 1),
    "512 @ 7²": (512, 7, 1, 1),
    "128 @ 56² /2": (128, 56, 2, 1),
    "128 @ 28² g32": (128, 28, 1, 32),
    "192 @ 28² depthwise": (192, 28, 1, 192),
}
"""Channels, side of the map, stride, groups."""
BATCHES = (1, 16)
BUDGET_S = 3.0
FEWEST = 7
GOALS = {
    "training, published / ours": ("≥", 1.4),
    "inference, published / ours": ("≥", 1.7),
    "saved for backward at 64 @ 56², ours / published": ("≤", 0.42),
    "folded / two convolutions, dense": ("≤", 1.06),
    "folded / two convolutions, depthwise": ("≤", 1.6),
    "inference, published / folded": ("≥", 2.3),
}
CUDA_GOAL = {"folded, compiled / two convolutions": ("≤", 1.25)}
Run = Callable[[], Any]


@dataclass(frozen=True)
class Setting:
    """Where and how the layers run."""

    device: torch.device
    dtype: torch.dtype
    channels_last: bool = False

    @property
    def name(self) -> str:
        """``cuda bfloat16 channels_last``."""
        layout = " channels_last" if self.channels_last else ""
        return f"{self.device.type} {str(self.dtype).removeprefix('torch.')}{layout}"

    def place(self, thing: Any) -> Any:
        """A layer or a map, there."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return thing.to(self.device, self.dtype).to(memory_format=layout)


def main() -> None:
    """Measures everything and records it."""
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or list(GRID)
    settings = [Setting(torch.device("cpu"), torch.float32)]
    if torch.cuda.is_available():
        device = torch.device("cuda")
        settings = [Setting(device, torch.float32), Setting(device, torch.bfloat16, channels_last=True)]
    result: dict[str, Any] = {}
    for setting in settings:
        print(f"\n{setting.name}; milliseconds, then multiples of the two convolutions")
        with exact_convolutions():
            rows = [row(shape, batch, setting) for shape in wanted for batch in BATCHES]
        found = verdicts(rows, setting)
        result[setting.name] = {"rows": rows, "goals": found}
    if set(wanted) == set(GRID):
        print(f"recorded in {record('layer', result, settings[0].device)}")


# ------------------------------------------------------------------ measuring


def row(shape: str, batch: int, setting: Setting) -> dict[str, Any]:
    """One shape and batch: medians in seconds by name, what training keeps in bytes, where the folded layer spends its time."""
    layer, x = made(shape, batch, setting)
    runs = inference(layer, x, setting)
    times = medians(list(runs.values()), setting)
    seconds = dict(zip(runs, times, strict=True))
    steps, kept = training(layer, x)
    seconds |= dict(zip(steps, medians(list(steps.values()), setting), strict=True))
    print_row(shape, batch, seconds, kept)
    return {
        "shape": shape,
        "batch": batch,
        "seconds": seconds,
        "saved_bytes": kept,
        "profile": breakdown(runs["folded"], setting),
    }


def made(shape: str, batch: int, setting: Setting) -> tuple[SAConv2d, Tensor]:
    """A trained layer, and an input for it."""
    channels, side, stride, groups = GRID[shape]
    torch.manual_seed(0)
    layer = oracle.shake(SAConv2d(channels, channels, 3, stride, 1, groups=groups, bias=False))
    return setting.place(layer), setting.place(torch.randn(batch, channels, side, side))


def inference(layer: SAConv2d, x: Tensor, setting: Setting) -> dict[str, Run]:
    """Everything that is compared in inference; all of it computes what the layer computes, but for the first two."""
    layer = copy.deepcopy(layer).eval()
    state = published_state(layer)
    arguments = (layer.stride, layer.groups)
    folded, bare = layer.folded(), without_contexts(layer).folded()
    assert isinstance(folded, FoldedSAConv2d)
    assert folded.narrow is not None
    assert folded.wide is not None
    narrow, wide = folded.narrow.weight, folded.wide.weight  # the same memory: neither is warmer than the other
    contexts, branches = (with_parts(layer, parts).folded() for parts in ("contexts", "branches"))
    torch._dynamo.reset()
    compiled, bare_compiled = (torch.compile(module) for module in (folded, bare))

    def convolve(kernel: Tensor, rate: int) -> Tensor:
        return F.conv2d(x, kernel, None, arguments[0], rate, rate, arguments[1])

    def quiet(run: Run) -> Run:
        def quietly() -> Any:
            with torch.inference_mode():
                return run()

        return quietly

    runs: dict[str, Run] = {
        "original": lambda: convolve(narrow, 1),
        "two convolutions": lambda: (convolve(narrow, 1), convolve(wide, 3)),
        "published": lambda: published.saconv(state, x, stride=layer.stride[0], groups=layer.groups),
        "ours": lambda: layer(x),
        "folded": lambda: folded(x),
        "folded, no contexts": lambda: bare(x),
        "folded, compiled": lambda: compiled(x),
        "folded, no contexts, compiled": lambda: bare_compiled(x),
        "contexts, folded": lambda: contexts(x),
        "branches, folded": lambda: branches(x),
    }
    runs = {name: quiet(run) for name, run in runs.items()}
    wanted, limit = runs["published"](), 1e-4 if x.dtype == torch.float32 else 0.1
    for name in ("ours", "folded", "folded, compiled"):
        assert oracle.relative_error(runs[name]().float().cpu(), wanted.double().cpu()) < limit, name
    return runs


def published_state(layer: SAConv2d) -> dict[str, Tensor]:
    """What the published order reads; its buffers are in the dtype of the kernel."""
    buffers = {name: buffer.to(layer.weight.dtype) for name, buffer in layer.named_buffers()}
    return {**dict(layer.named_parameters()), **buffers}


def without_contexts(layer: SAConv2d) -> SAConv2d:
    """A copy whose contexts are zero."""
    bare = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in (*bare.pre_context.parameters(), *bare.post_context.parameters()):
            parameter.zero_()
    return bare


def with_parts(layer: SAConv2d, parts: Parts) -> SAConv2d:
    """A layer that has only these parts of ``layer``."""
    made = SAConv2d(**settings_of(layer), bias=False, parts=parts, device=layer.weight.device, dtype=layer.weight.dtype)
    made.load_state_dict({name: value for name, value in layer.state_dict().items() if name in made.state_dict()})
    return made.eval()


def training(layer: SAConv2d, x: Tensor) -> tuple[dict[str, Run], dict[str, int]]:
    """A forward and a backward pass in both orders and of two convolutions, and the bytes that autograd keeps for each."""
    x = x.detach().requires_grad_()
    parameters, state = dict(layer.named_parameters()), published_state(layer)
    diff = nn.Parameter(layer.weight_diff.detach().clone())
    stride, groups = layer.stride, layer.groups

    def two() -> Tensor:
        narrow = F.conv2d(x, layer.weight, None, stride, 1, 1, groups)
        return narrow + F.conv2d(x, diff, None, stride, 3, 3, groups)

    forwards: dict[str, tuple[Run, Iterable[Tensor]]] = {
        "training, two convolutions": (two, (layer.weight, diff)),
        "training, published": (
            lambda: published.saconv(state, x, stride=stride[0], groups=groups),
            parameters.values(),
        ),
        "training, ours": (lambda: layer(x), parameters.values()),
    }
    upstream = torch.randn_like(layer(x))

    def step(forward: Run, leaves: Iterable[Tensor]) -> Run:
        wanted = [x, *leaves]
        return lambda: torch.autograd.grad(forward(), wanted, upstream)

    kept = {name: saved_bytes(forward, (x, *leaves)) for name, (forward, leaves) in forwards.items()}
    return {name: step(*pair) for name, pair in forwards.items()}, kept


def saved_bytes(forward: Run, leaves: Iterable[Tensor]) -> int:
    """What autograd keeps besides the parameters and the input, which are there anyway: every storage once."""
    there = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    found = sum(t.untyped_storage().nbytes() for pointer, t in kept.items() if pointer not in there)
    del output
    return found


def medians(runs: Sequence[Run], setting: Setting) -> list[float]:
    """Seconds of each, called in turn, in another order every time: who comes before decides what is in the caches."""
    for run in runs:
        for _ in range(3):
            run()
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + BUDGET_S
    while time.perf_counter() < end or len(times[0]) < FEWEST:
        for i in torch.randperm(len(runs)).tolist():
            times[i].append(timed(runs[i], setting))
    return [median(seconds) for seconds in times]


def timed(run: Run, setting: Setting) -> float:
    """Seconds of one call; on a device by its events, over enough calls that launches do not count."""
    if setting.device.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    first, last = (torch.cuda.Event(enable_timing=True) for _ in (1, 2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(10):
        run()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 10 / 1e3


def breakdown(run: Run, setting: Setting) -> dict[str, float]:
    """Shares of the time by operation, the largest first; ``(between)`` is what no operation accounts for."""
    on_device = setting.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CUDA if on_device else torch.profiler.ProfilerActivity.CPU]
    n = 20
    with torch.profiler.profile(activities=activities) as profiler:
        whole = n * 1e6 * median(timed(run, setting) for _ in range(n))
    name = "self_device_time_total" if on_device else "self_cpu_time_total"
    found = {event.key: float(getattr(event, name)) for event in profiler.key_averages()}
    whole = sum(found.values()) if on_device else whole
    shares = {key: value / whole for key, value in found.items() if value > 0.005 * whole}
    return dict(sorted(shares.items(), key=lambda item: -item[1])) | {
        "(between)": max(1 - sum(found.values()) / whole, 0.0)
    }


# ------------------------------------------------------------------ telling


def print_row(shape: str, batch: int, seconds: dict[str, float], kept: dict[str, int]) -> None:
    """One line: the floor in milliseconds, the others as multiples of it."""
    floor, train = seconds["two convolutions"], seconds["training, two convolutions"]
    cells = [
        f"{name} ×{seconds[name] / floor:.2f}"
        for name in seconds
        if not name.startswith("training") and name != "two convolutions"
    ]
    steps = [
        f"{name.partition(', ')[2]} ×{seconds[name] / train:.2f}" for name in ("training, published", "training, ours")
    ]
    memory = kept["training, ours"] / kept["training, published"]
    print(f"{shape}, batch {batch}: two convolutions {1e3 * floor:.3g} ms · {' · '.join(cells)}")
    print(f"  training: two convolutions {1e3 * train:.3g} ms · {' · '.join(steps)} · saved ×{memory:.3f}", flush=True)


def verdicts(rows: list[dict[str, Any]], setting: Setting) -> dict[str, Any]:
    """The goals beside what was measured."""
    dense = [r for r in rows if GRID[r["shape"]][3] == 1]
    depthwise = [r for r in rows if GRID[r["shape"]][3] == GRID[r["shape"]][0]]
    grouped = [r for r in rows if r not in dense and r not in depthwise]
    first = [r for r in rows if r["shape"] == next(iter(GRID)) and r["batch"] == max(BATCHES)]
    found = {
        "training, published / ours": mean(rows, "training, published", "training, ours"),
        "inference, published / ours": mean(rows, "published", "ours"),
        "saved for backward at 64 @ 56², ours / published": saved_ratio(first),
        "folded / two convolutions, dense": mean(dense, "folded", "two convolutions", best="folded, compiled"),
        "folded / two convolutions, depthwise": mean(depthwise, "folded", "two convolutions", best="folded, compiled"),
        "inference, published / folded": mean(rows, "published", "folded"),
        "folded without contexts / two convolutions, dense": mean(
            dense, "folded, no contexts", "two convolutions", best="folded, no contexts, compiled"
        ),
        "folded without contexts / two convolutions, depthwise": mean(
            depthwise, "folded, no contexts", "two convolutions", best="folded, no contexts, compiled"
        ),
        "folded / two convolutions, grouped": mean(grouped, "folded", "two convolutions", best="folded, compiled"),
        "contexts, folded / original, dense": mean(dense, "contexts, folded", "original"),
        "branches, folded / original, dense": mean(dense, "branches, folded", "original"),
        "folded, compiled / two convolutions": mean(rows, "folded, compiled", "two convolutions"),
        "inference, published / folded, dense": mean(dense, "published", "folded"),
        "training, ours / two convolutions": mean(rows, "training, ours", "training, two convolutions"),
    }
    on_device = setting.device.type == "cuda"
    goals = CUDA_GOAL if on_device and setting.dtype == torch.bfloat16 else {} if on_device else GOALS
    told = {}
    print()
    for name, value in found.items():
        if value is None:
            continue
        sign, goal = goals.get(name, ("", None))
        met = None if goal is None else value >= goal if sign == "≥" else value <= goal
        said = "" if goal is None else f"  (goal {sign} {goal:g}: {'met' if met else 'MISSED'})"
        print(f"{name}: ×{value:.3f}{said}")
        told[name] = {"measured": value, "goal": None if goal is None else f"{sign} {goal:g}", "met": met}
    return told


def mean(rows: list[dict[str, Any]], above: str, below: str, best: str | None = None) -> float | None:
    """The geometric mean of the ratios; with ``best``, of the faster of the two ways for each row."""
    ratios = [min(r["seconds"][name] for name in (above, best or above)) / r["seconds"][below] for r in rows]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def saved_ratio(rows: list[dict[str, Any]]) -> float | None:
    """What training keeps, ours over the published."""
    if not rows:
        return None
    kept = rows[0]["saved_bytes"]
    return kept["training, ours"] / kept["training, published"]


if __name__ == "__main__":
    main()
