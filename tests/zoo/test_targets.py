"""Every target on a slice of real models; ``python -m benchmarks.targets`` is the whole of it."""

import pytest

from benchmarks.targets import MERGED, TARGETS, examine
from tests.zoo.test_zoo import needs_library

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", ["timm:resnet10t", "timm:mobilenetv3_small_050", "timm:convnext_atto"])
def test_a_real_model_starts_equal_learns_and_folds(spec, target):
    needs_library("timm")
    found = examine((spec, target))
    assert "error" not in found, found
    if not found["layers"]:
        return
    assert found["max_rel"] < 1e-4
    assert found["trained"]
    assert found["proved"]
    assert found["fold_error"] < 1e-3
    if target in MERGED:
        assert not found["left"]
        assert found["macs_ratio"] == 1.0 or target == "dilated-reparam"
