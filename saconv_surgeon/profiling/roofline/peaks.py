"""What the machine can do at most, measured on the spot: a matrix product, a convolution, and copies of rising size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from saconv_surgeon.profiling.timing.time_models import threads
from saconv_surgeon.records import CopySpeed, Peaks

PRODUCTS = (512, 1024)
LARGE_PRODUCTS = (4096, 8192)
"""Sizes of square matrix products, on a CPU and on a GPU."""
CONVOLUTIONS = ((1, 128, 56), (1, 256, 28))
LARGE_CONVOLUTIONS = ((64, 128, 56), (64, 256, 28))
"""Batch, channels and side of the maps of 3×3 convolutions."""
COPIES = tuple(2**power for power in range(16, 28, 2))
LARGE_COPIES = tuple(2**power for power in range(20, 32, 2))
"""Bytes that a copy reads."""
WARMUPS, SECONDS, MOST_RUNS = 1, 0.08, 200
"""Of each measurement: runs before it, for how long, and how many at most."""


def measure_peaks(device: torch.device, dtype: torch.dtype, n_threads: int | None) -> Peaks:
    """The most FLOPs per second and, by size, bytes per second; the best of several runs of each, in about a second on a CPU."""
    start = time.perf_counter()
    large = device.type == "cuda"
    with torch.no_grad(), threads(n_threads):
        found = {
            name: flops / fastest
            for name, flops, run in _work(device, dtype, large)
            if (fastest := _fastest(run, device)) is not None
        }
        copies = []
        for size in LARGE_COPIES if large else COPIES:
            a = torch.ones(size, dtype=torch.uint8, device=device)
            b = torch.empty_like(a)
            seconds = _fastest(lambda a=a, b=b: b.copy_(a), device)  # type: ignore[misc]
            if seconds is not None:
                copies.append(CopySpeed(2 * size, 2 * size / seconds))
        used = torch.get_num_threads()
    name = max(found, key=lambda each: found[each])
    return Peaks(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        threads=used,
        flops_per_s=found[name],
        fastest=name,
        copies=tuple(copies),
        seconds=time.perf_counter() - start,
    )


def _work(device: torch.device, dtype: torch.dtype, large: bool) -> Iterator[tuple[str, int, Callable[[], Tensor]]]:
    """Name, FLOPs, and what to run; a multiply-accumulate is two FLOPs."""
    for n in LARGE_PRODUCTS if large else PRODUCTS:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        yield f"matrix product {n}×{n}×{n}", 2 * n**3, lambda a=a, b=b: a @ b  # type: ignore[misc]
    for batch, channels, side in LARGE_CONVOLUTIONS if large else CONVOLUTIONS:
        x = torch.randn(batch, channels, side, side, device=device).to(dtype)
        kernel = torch.randn(channels, channels, 3, 3, device=device).to(dtype)
        for name, layout in (("", torch.contiguous_format), (", channels_last", torch.channels_last)):
            x, kernel = x.to(memory_format=layout), kernel.to(memory_format=layout)
            yield (
                f"3×3 convolution {channels}→{channels}, {side}×{side}, batch {batch}{name}",
                2 * batch * 9 * channels * channels * side * side,
                lambda x=x, kernel=kernel: F.conv2d(x, kernel, padding=1),  # type: ignore[misc]
            )


def _fastest(run: Callable[[], object], device: torch.device) -> float | None:
    """Seconds of the fastest run; None if the device cannot do it in this dtype."""
    best = None
    try:
        for _ in range(WARMUPS):
            run()
        start, n = time.perf_counter(), 0
        while n < 2 or (time.perf_counter() - start < SECONDS and n < MOST_RUNS):
            seconds = _seconds(run, device)
            best = seconds if best is None else min(best, seconds)
            n += 1
    except RuntimeError:
        return None
    return best


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
