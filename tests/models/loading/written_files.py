"""The source of factories."""

SOURCE = """
    import torch
    from torch import nn
    from neighbour import WIDTH

    class Net(nn.Module):
        def __init__(self, depth=1, *, bias=True):
            super().__init__()
            self.convs = nn.Sequential(*(nn.Conv2d(3, WIDTH, 3, padding=1, bias=bias) for _ in range(depth)))
        def forward(self, x):
            return self.convs(x)

    def build(depth=1, bias=True):
        return Net(depth, bias=bias)

    def broken():
        raise RuntimeError("my own fault")

    def wrong_type_inside():
        return len(3)

    def forgot():
        Net()

    def inputs():
        return {"x": torch.zeros(1, 3, 8, 8)}

    class Holder:
        make = staticmethod(build)

    ready = Net()
    number = 3
"""
