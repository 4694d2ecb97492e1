"""Counts of whole models: against torch's own counter, against the sum over the parameters, and against counts by hand."""

import pytest

from tests.profiling.by_hand import WHOLE, bottleneck_resnet
from tests.zoo.counted import PUBLISHED, SAMPLES, check, counted, open_model
from tests.zoo.test_zoo import needs_library

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("spec", SAMPLES)
def test_samples(spec):
    assert check(spec)["agrees"]


@pytest.mark.zoo
@pytest.mark.parametrize("spec", PUBLISHED)
def test_published_models(spec):
    needs_library(spec.partition(":")[0])
    check(spec)


def test_enough_models_are_counted_by_hand():
    assert len({*SAMPLES, *PUBLISHED}) >= 25
    assert len(WHOLE.keys() & {*SAMPLES, *PUBLISHED}) == len(WHOLE) >= 6


def test_plain_resnet50_has_the_published_figures():
    """25,557,032 parameters, 4.089 G MACs, 4.11 G in fvcore's unit (He et al. 2016; the fvcore documentation's model)."""
    transformers = pytest.importorskip("transformers")
    try:
        _ = transformers.ResNetForImageClassification
    except Exception as error:  # another library that it finds does not import
        pytest.skip(f"its ResNet cannot be imported: {error}")
    model, inputs = open_model("transformers:resnet(num_labels=1000)")
    found = counted(model, inputs)
    assert inputs.shapes == ((1, 3, 224, 224),)
    assert found.parameters == 25_557_032
    assert found.macs == bottleneck_resnet((3, 4, 6, 3)) == 4_089_184_256
    assert f"{found.fvcore_flops / 1e9:.2f}" == "4.11"
    assert found.cross_check.agrees
