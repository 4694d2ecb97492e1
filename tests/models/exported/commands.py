"""The command line, called from a test, and the source of a model that vanishes."""

from click.testing import CliRunner

from saconv_surgeon.cli import cli

SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.c2 = nn.Conv2d(8, 8, 3, padding="same", groups=2, bias=False)

    def forward(self, x):
        return x + self.c2(torch.relu(self.bn(self.c1(x))))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.block = Block()
        self.wide = nn.Conv2d(8, 8, (3, 5), padding=(2, 4), dilation=2, padding_mode="reflect")
        self.kernel = nn.Parameter(torch.randn(2, 8, 3, 3))
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x, scale=None):
        x = self.block(self.block(self.stem(x)))
        x = self.wide(x) if scale is None else self.wide(x) * scale
        return {"map": self.out(x), "direct": torch.nn.functional.conv2d(x, self.kernel), "pooled": x.mean((2, 3))}
"""


def run(*args):
    result = CliRunner().invoke(cli, [*map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result
