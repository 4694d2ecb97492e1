"""What is learnt: each task has its pictures, its model, its loss and its measure."""

from __future__ import annotations

from benchmarks.payoff.tasks.classify import Classify
from benchmarks.payoff.tasks.dense import Dense
from benchmarks.payoff.tasks.detect import Detect
from benchmarks.payoff.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Dense(), Classify(), Detect())}
