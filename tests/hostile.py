"""A model whose layers are called whatever a registry of names allows: reports show the names as they are."""

import torch
from torch import nn

NAMES = (
    "[bold red]x[/bold red]",
    "[/layer]",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)//",
    "{{ 7 * 7 }}{% raw %}",
    "a|b`c``d*e_f~g",
    "![x](https://example/x)",
    '=1+1,;"quoted"',
    "&amp;&lt;",
    "😀👩‍👩‍👧‍👦é",
    "مرحبا",
    "long" + "0123456789" * 30,
)
"""Each is to be found in every report, whole."""
CONTROL = "\x1b[31mred\x07\n\u202egnp"
"""Comes out escaped: it could act on a terminal."""


class Hostile(nn.Module):
    def __init__(self):
        super().__init__()
        for name in (*NAMES, CONTROL):
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


def build():
    return Hostile()


def example_inputs():
    return torch.randn(1, 3, 8, 8)
