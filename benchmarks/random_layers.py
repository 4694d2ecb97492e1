"""Random convolutions of all dtypes, memory formats and padding modes, with norms behind: is any conversion wrong without a word?

    python -m benchmarks.random_layers [--draws 10000] [--first SEED] [--processes 2]

Each draw is converted by the public call, moved, and folded. At rest it has to be equal to the bit if the conversion says so;
moved and folded it has to follow the equations in float64 (``tests/oracle.py``) as closely as its dtype allows. What is refused
has a reason. A draw that ends its process is one that is wrong, unless the plain convolution ends it too.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import saconv_surgeon as surgeon
from benchmarks.recording import record
from saconv_surgeon.errors import SurgeonError
from tests import oracle

WITHIN = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Of the largest output."""
PARTS = ("all", "all", "contexts", "branches")
AT_ONCE = 25
"""Draws of one child process, which may be ended by one of them."""


def drawn(seed: int) -> tuple[nn.Sequential, Tensor, dict[str, str]]:
    """A convolution with or without a norm behind, an input, and the options of the conversion."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    groups = draw.choice((1, 1, 1, 2, 4))
    channels = [groups * draw.choice((1, 2, 3, 4, 8, 16)) for _ in range(2)]
    both = lambda low, high: (draw.randint(low, high), draw.randint(low, high))  # noqa: E731
    kernel, stride, dilation = both(1, 5), both(1, 3), both(1, 3)
    padding: Any = draw.choice((both(0, 4), tuple(k // 2 for k in kernel), "same", "valid"))
    mode = draw.choice(("zeros", "zeros", "zeros", "reflect", "replicate", "circular"))
    dtype = draw.choice(list(WITHIN))
    stride = (1, 1) if padding == "same" else stride
    conv = nn.Conv2d(*channels, kernel, stride, padding, dilation, groups, draw.random() < 0.5, mode, dtype=dtype)
    model = nn.Sequential(conv)
    if draw.random() < 0.5:
        model.append(norm_behind(draw, channels[1]).to(dtype))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    side = draw.choice((1, 2, 8, 20))
    x = torch.randn(draw.choice((1, 2, 5)), channels[0], *(span + draw.randint(0, side) for span in spans)).to(dtype)
    if draw.random() < 0.4:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval(), x, {"parts": draw.choice(PARTS)}


def norm_behind(draw: random.Random, channels: int) -> nn.Module:
    """One with statistics and scales that are not those of a new one."""
    if draw.random() < 0.2:
        return nn.GroupNorm(1, channels)
    norm = nn.BatchNorm2d(channels, eps=draw.choice((1e-5, 1e-3)), affine=draw.random() < 0.8)
    with torch.no_grad():
        for tensor, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.2, 3), (norm.weight, -2, 2)):
            if tensor is not None:
                tensor.uniform_(low, high)
        if norm.weight is not None and draw.random() < 0.3:
            norm.weight[0] = 0
    return norm


def tried(seed: int) -> str:
    """What became of one draw; what is wrong begins with WRONG."""
    model, x, options = drawn(seed)
    try:
        with torch.no_grad():
            y = model(x)
    except (RuntimeError, ValueError):
        return "the model itself does not run"
    if y.shape[1:].numel() == 1 and any(isinstance(layer, nn.GroupNorm) for layer in model):
        return "a norm of single values, which makes noise of any rounding"
    if not close(y, copied(model)(x.double()).detach(), x.dtype):
        return "torch's own output is wrong"
    try:
        conversion = surgeon.convert(model, x, options=options, allow_depthwise=True, seed=seed)
    except SurgeonError as error:
        return f"said: {type(error).__name__}"
    if not conversion.converted:
        return f"refused: {conversion.plan.sites[0].reason_code}"
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    with torch.no_grad():
        plain = model(other)
        same = torch.equal(conversion.model(other), plain)
    if not close(plain, copied(model)(other.double()).detach(), x.dtype):
        return "torch's own output is wrong"
    if conversion.equivalence is not None and conversion.equivalence.bit_equal and not same:
        return "WRONG at rest: not equal to the bit, as was said"
    return moved(conversion.model, x, seed)


def moved(model: nn.Module, x: Tensor, seed: int) -> str:
    """The converted model after a training, and folded."""
    oracle.shake(model[0], seed)  # type: ignore[index]
    wanted = oracle.saconv(model[0], x)  # type: ignore[index]
    for behind in list(model.children())[1:]:
        wanted = copied(behind)(wanted)
    wanted = wanted.detach()
    with torch.no_grad():
        if not close(model(x), wanted, x.dtype):
            return f"WRONG moved: off by {oracle.relative_error(model(x), wanted):.2g}"
        try:
            folding = surgeon.fold(model, x, seed=seed)
        except SurgeonError as error:
            return f"said in folding: {type(error).__name__}"
        if not close(folding.model(x), wanted, x.dtype):
            said = "said" if not folding.equivalence.passed else "WRONG folded"
            return f"{said}: off by {oracle.relative_error(folding.model(x), wanted):.2g}"
    return "right"


def copied(module: nn.Module) -> nn.Module:
    """In float64."""
    return copy.deepcopy(module).double().eval()


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Whether an output is within what its dtype allows; a map of zeros has to be nearly that."""
    most = float(wanted.abs().max()) if wanted.numel() else 0.0
    return bool(((found.double() - wanted).abs() <= WITHIN[dtype] * max(most, 1e-3)).all())


def child(first: int, last: int) -> Iterator[tuple[int, str]]:
    """The draws of a range, in processes of a few, so that one that ends its process is found."""
    seeds = list(range(first, last))
    while seeds:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            with os.fdopen(writing, "w") as pipe:
                for seed in seeds[:AT_ONCE]:
                    try:
                        found = tried(seed)
                    except Exception as error:  # what reaches the user as a traceback
                        found = f"WRONG: {type(error).__name__}: {error}"
                    pipe.write(json.dumps([seed, found]) + "\n")
                    pipe.flush()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            done = [json.loads(line) for line in pipe if line.endswith("\n")]
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        yield from done
        seeds = seeds[len(done) :]
        if status != 0 and seeds:
            seed = seeds.pop(0)
            yield seed, ended(seed, status)


def ended(seed: int, status: int) -> str:
    """What a draw that ended its process is: the plain convolution, run alone, may do the same."""
    pid = os.fork()
    if pid == 0:
        model, x, _ = drawn(seed)
        with torch.no_grad():
            model(x)
        os._exit(0)
    alone = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "torch's own convolution ends the process" if alone != 0 else f"WRONG: ended the process ({status})"


def main() -> None:
    """Runs the draws, prints what is wrong, and records the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    last = options.first + options.draws
    if options.child:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        for seed, what in child(options.first, last):
            print(json.dumps([seed, what]), flush=True)
        return
    counts: Counter[str] = Counter()
    each = -(-options.draws // options.processes)
    command = [sys.executable, "-m", "benchmarks.random_layers", "--child", "--draws"]
    children = [
        subprocess.Popen(
            [*command, str(min(each, last - first)), "--first", str(first)], stdout=subprocess.PIPE, text=True
        )
        for first in range(options.first, last, each)
    ]
    for one in children:
        assert one.stdout is not None
        for line in one.stdout:
            seed, what = json.loads(line)
            counts[what.split(":")[0] if what.startswith("WRONG") else what.split(": off")[0]] += 1
            if what.startswith("WRONG"):
                print(f"seed {seed}: {what}", flush=True)
    result = {"draws": sum(counts.values()), "first seed": options.first, "counts": dict(counts.most_common())}
    print(json.dumps(result, indent=1))
    if options.draws >= 1000:
        print(f"recorded in {record('random-layers', result)}")


if __name__ == "__main__":
    main()
