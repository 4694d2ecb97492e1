"""The command line, called from a test."""

from click.testing import CliRunner

from saconv_surgeon.cli import cli

RESNET = "sample_models/tiny_resnet.py:build(depth=1, width=8)"


NETS = "tests/nets.py"


SIZE = ["--input", "2x3x16x16"]


def run(*arguments, **options):
    return CliRunner().invoke(cli, list(map(str, arguments)), **options)


FAST = ["--budget", "0.1"]
SHORT = ["--budget", "0.2", "--no-layer-latency"]
MOVED = """
from torch import nn
import torch
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
    def forward(self, x):
        return self.conv(x) + (type(self.conv) is nn.Conv2d)
def build():
    return Net()
def explodes():
    net = Net()
    net.forward = lambda x: 1 / 0
    return net
def example_inputs():
    return torch.zeros(1, 3, 8, 8)
"""
