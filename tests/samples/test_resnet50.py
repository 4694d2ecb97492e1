"""SPConv in a ResNet-50 has the parameters and the operations that its authors print."""

import pytest

from benchmarks import resnet50


@pytest.fixture(scope="module")
def model():
    try:
        return resnet50.resnet50()
    except ImportError as error:
        pytest.skip(f"no ResNet-50 of transformers: {error}")


def printed(value, like):
    """``value`` with as many digits as ``like``, cut off: the authors print 18.34 for the 18,345,448 of their own code."""
    digits = len(like.partition(".")[2])
    return f"{int(value * 10**digits) / 10**digits:.{digits}f}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "exact"),
    [
        ("1/2", 18_345_448),
        pytest.param("1/4", 16_930_792, marks=pytest.mark.slow),
        pytest.param("1/8", 16_223_464, marks=pytest.mark.slow),
    ],
)
def test_spconv_in_a_resnet50(model, ratio, exact):
    flops, parameters = resnet50.PUBLISHED[ratio]
    found = resnet50.row(model, ratio)
    assert found["converted"] == 16
    # by hand: a ResNet-50 without its 3×3 kernels, and of each C → C one 9/4·αC² + C² + 5C
    plain = 25_557_032 - 9 * SQUARES
    share = {"1/2": 9 / 8 * 2 + 1, "1/4": 9 / 8 + 1, "1/8": 9 / 16 + 1}[ratio]
    assert found["parameters"] == exact == plain + share * SQUARES + 5 * WIDTHS
    assert printed(found["parameters"] / 1e6, parameters) == parameters
    assert abs(found["fvcore"] / (float(flops) * 1e9) - 1) < resnet50.LARGEST_MISS


BLOCKS = {64: 3, 128: 4, 256: 6, 512: 3}
WIDTHS = sum(n * c for c, n in BLOCKS.items())
SQUARES = sum(n * c**2 for c, n in BLOCKS.items())


def test_the_plain_one(model):
    found = resnet50.row(model, None)
    assert found["parameters"] == 25_557_032
    assert found["macs"] == 4_089_184_256
