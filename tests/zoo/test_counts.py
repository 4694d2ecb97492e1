"""Counts of whole models: against torch's own counter, against the sum over the parameters, and against counts by hand."""

import pytest

from saconv_surgeon.models.running.inputs import Inputs
from tests.profiling.counting.by_hand import WHOLE, bottleneck_resnet
from tests.zoo.catalogue import entries
from tests.zoo.counted import PUBLISHED, SAMPLES, by_torch, check, counted, lstm_macs, open_model
from tests.zoo.examine import open_entry
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


CATALOGUE = tuple({(entry.library, entry.family): entry for entry in reversed(entries())}.values())
"""The first of each family."""
VECTOR_PRODUCTS = {"transformers:d_fine", "transformers:deimv2"}
"""Models with matrix–vector products, for which torch's counter has nothing."""


@pytest.mark.zoo
@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.spec)
def test_one_of_each_family(entry):
    needs_library(entry.library)
    model, inputs = open_entry(entry)
    inputs = Inputs.of(inputs)
    found = counted(model, inputs)
    assert set(found.uncounted_ops) <= {"torchvision::nms"}
    assert found.parameters == sum(p.numel() for p in model.parameters())
    for figure in ("macs", "flops", "activations", "ops", "bytes_moved"):
        assert sum(getattr(layer, figure) for layer in found.layers) == getattr(found, figure), figure
    if found.engine == "fvcore":
        assert found.cross_check.agrees
    torch_says = by_torch(model, inputs)
    if entry.spec in VECTOR_PRODUCTS:
        assert 0 < found.macs - torch_says < 1e-4 * found.macs
    else:
        assert found.macs == torch_says + lstm_macs(model, inputs)


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
