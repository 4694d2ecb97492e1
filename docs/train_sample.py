"""Trains the converted sample model that pictures and the gallery show: ``python -m docs.train_sample`` beside ``converted``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

import saconv_surgeon as surgeon
from benchmarks.images import figures
from sample_models import tiny_resnet

STEPS, BATCH = 120, 32


def train(work: Path) -> None:
    """``work/converted`` → ``work/trained.pt``: the conversion, trained on to tell apart the classes of drawn images."""
    torch.manual_seed(0)
    model = surgeon.restore(tiny_resnet.build(), work / "converted").train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        x, labels = figures(BATCH, seed=step)
        loss = F.cross_entropy(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save(model.eval(), work / "trained.pt")


if __name__ == "__main__":
    train(Path.cwd())
