"""Work that a model does only when somebody takes its output: generators, coroutines, functions."""

import asyncio
import functools

import pytest
import torch
from torch import nn

from tests.profiling.counting.counted import Call, R, count

MACS = 64 * 8 * 27
"""Of one run of the convolution."""
X = R(1, 3, 10, 10)


class Stages(nn.Module):
    def __init__(self, give):
        super().__init__()
        self.conv, self.give = nn.Conv2d(3, 8, 3, bias=False), give

    def forward(self, x):
        return self.give(self.conv, x)


def generator(conv, x):
    yield conv(x)
    yield conv(x)


def of_generators(conv, x):
    yield {"inner": generator(conv, x)}
    yield [map(conv, [x, x, x])]


async def later(conv, x):
    await asyncio.sleep(0)
    return conv(x)


async def one_after_another(conv, x):
    yield conv(x)
    await asyncio.sleep(0.001)
    yield conv(x)


@pytest.mark.parametrize(
    ("give", "runs"),
    [
        (generator, 2),
        (lambda conv, x: [generator(conv, x), {"a": (generator(conv, x), x)}], 4),
        (of_generators, 5),
        (lambda conv, x: map(conv, [x, x, x]), 3),
        (lambda conv, x: zip([1, 2], generator(conv, x), strict=True), 2),
        (lambda conv, x: (conv(y) for y in [x]), 1),
        (lambda conv, x: iter([conv(x)]), 1),
        (lambda conv, x: list(generator(conv, x)), 2),
        (later, 1),
        (one_after_another, 2),
    ],
)
def test_what_is_computed_later_is_counted(give, runs):
    counted = count(Stages(give), X)
    assert counted.macs == runs * MACS
    assert {row.path: row.macs for row in counted.layers} == {"conv": runs * MACS}
    assert counted.uncounted_ops == {}
    assert counted.cross_check.agrees


def test_generator_of_an_inner_module_that_the_outer_one_uses_up():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Stages(generator)

        def forward(self, x):
            return torch.cat(list(self.inner(x)))

    assert count(Outer(), X).macs == 2 * MACS


def test_iterator_that_never_ends_is_listed():
    def forever(conv, x):
        while True:
            yield x + 1

    counted = count(Stages(forever), R(2, 2))
    assert list(counted.uncounted_ops) == ["an iterator of more than 1,000 items, the rest"]


@pytest.mark.parametrize("give", [lambda conv, x: lambda: conv(x), lambda conv, x: {"f": functools.partial(conv, x)}])
def test_function_that_forward_returns_is_listed(give):
    assert list(count(Stages(give), X).uncounted_ops) == ["a function that forward returns"]


def test_coroutine_inside_a_running_loop_is_listed():
    async def notebook():
        return count(Stages(later), X)

    counted = asyncio.run(notebook())
    assert counted.uncounted_ops["a coroutine that forward returns"].calls >= 1


def test_an_object_may_keep_functions_and_its_generators_are_counted():
    class Output:
        def __init__(self, conv, x):
            self.stages, self.key = generator(conv, x), len

    counted = count(Stages(Output), X)
    assert (counted.macs, counted.uncounted_ops) == (2 * MACS, {})


def test_plain_outputs_are_left_as_they_are():
    assert count(Call(lambda x: {"a": [x, None, 3], "b": "text"}), R(2)).uncounted_ops == {}
