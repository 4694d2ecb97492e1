"""Nets in which one part of one layer alone can lower the loss, so that what a score should say is known."""

import torch
from torch import nn
from torch.nn import functional as F

from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records.budgeted_plan import Candidate
from saconv_surgeon.surgery.inspect import make_plan

CONTEXTS = Candidate("contexts", "saconv", {"parts": "contexts"})
BRANCHES = Candidate("branches", "saconv", {"parts": "branches"})
ALL = Candidate("all", "saconv")
SIDE = 12


class Parallel(nn.Module):
    """``a`` sees the first two channels, ``b`` the others; their outputs are added."""

    def __init__(self, *, same=False):
        super().__init__()
        self.a = nn.Conv2d(2, 2, 3, padding=1)
        self.b = nn.Conv2d(2, 2, 3, padding=1)
        self.same = same
        if same:
            self.b.load_state_dict(self.a.state_dict())

    def forward(self, x):
        return self.a(x[:, :2]) + self.b(x[:, :2] if self.same else x[:, 2:])


def of_mean(x):
    """What contexts can say and nothing else: the mean of the map, at every pixel."""
    return 0.3 * x[:, :2].mean((2, 3), keepdim=True).expand(-1, -1, SIDE, SIDE)


def of_far(x):
    """What a wide branch can say and nothing else: the pixel three to the right."""
    return 0.3 * F.pad(x[:, :2, :, 3:], (0, 3))


def of_noise(x):
    """What nothing can say."""
    return 0.3 * torch.randn(len(x), 2, SIDE, SIDE, generator=torch.Generator().manual_seed(int(x[0, 0, 0, 0] * 1e6)))


def parallel(**options):
    torch.manual_seed(0)
    return Parallel(**options)


def batches_for(model, added, *, batches=8, samples=8, seed=0):
    """(x, wanted): the wanted output is what the model says, and something that is ``added``."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(batches):
        x = torch.randn(samples, 4, SIDE, SIDE, generator=generator)
        x += 0.15 * torch.randn(samples, 4, 1, 1, generator=generator)
        with torch.no_grad():
            found.append((x, model(x) + added(x)))
    return found


def loss(output, batch):
    return F.mse_loss(output, batch[1])


def inputs_of(batch):
    return Inputs.of(batch[0])


def scored(score, model, batches, *, offered=(CONTEXTS, BRANCHES, ALL), paths=None, loss=loss, **options):
    """``score`` of all eligible layers of a model, or those at ``paths``."""
    batches = list(batches)
    plan = make_plan(model, batches[0][0])
    paths = plan.converted_paths if paths is None else paths
    return score(model, plan, dict.fromkeys(paths, offered), iter(batches), loss, inputs_of, **options)
