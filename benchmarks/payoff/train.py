"""The one training loop, and models that are trained once for each seed and kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.payoff.cells import claimed
from benchmarks.payoff.pictures import Pictures
from benchmarks.payoff.recipes import Recipe, optimizer_of
from benchmarks.payoff.tasks.task import CACHE, Task

LONGEST_GRADIENT = 5.0


@dataclass(frozen=True)
class Trained:
    """What a training took, in seconds of wall and of this process, and its mean loss over the last tenth."""

    seconds: float
    process_seconds: float
    last_loss: float


def orders(n: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Which pictures each step sees: all of them in random order, again and again, the same for the same seed."""
    g = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < batch:
            left = torch.cat([left, torch.randperm(n, generator=g)])
        yield left[:batch]
        left = left[batch:]


def train(
    model: nn.Module,
    task: Task,
    pictures: Pictures,
    recipe: Recipe,
    *,
    rate: float,
    steps: int,
    seed: int,
) -> Trained:
    """Trains ``model`` in place, with a cosine schedule to zero; every arm of a seed sees the same pictures in the same order."""
    optimizer = optimizer_of(model, recipe, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    losses: list[float] = []
    start, start_process = time.perf_counter(), time.process_time()
    for chosen in orders(len(pictures), task.batch, steps, seed):
        batch = pictures.chosen(chosen)
        loss = task.output_loss(model(batch.inputs()), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LONGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, steps // 10) :]
    return Trained(time.perf_counter() - start, time.process_time() - start_process, sum(last) / len(last))


def base(task: Task, seed: int) -> nn.Module:
    """The trained model of a seed, in eval mode; trained now if it was not yet. Another process that trains it is waited for."""
    path = CACHE / "base" / task.name / f"seed-{seed}.pt"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = task.new_model()
    with claimed(path.with_suffix(".lock"), wait=True):
        if not path.exists():
            pictures = task.pictures(seed, test=False)
            done = train(
                model,
                task,
                pictures,
                Recipe("adamw"),
                rate=task.base_rate,
                steps=task.base_steps,
                seed=1000 + seed,
            )
            print(f"{task.name} seed {seed}: trained in {done.seconds:.0f} s, loss {done.last_loss:.3f}", flush=True)
            torch.save(model.state_dict(), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
        model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()
