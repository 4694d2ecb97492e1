"""Peaks that were measured, and layers under them."""

import pytest
import torch

import saconv_surgeon as surgeon
from saconv_surgeon.errors import UsageError
from saconv_surgeon.profiling.roofline.layers_under_roofs import roofline_of
from saconv_surgeon.profiling.roofline.peaks import measure_peaks
from saconv_surgeon.records import CopySpeed, LayerCost, Peaks, Timing, from_dict, to_dict
from sample_models import tiny_resnet

CPU = torch.device("cpu")
PEAKS = Peaks("cpu", "float32", 1, 100.0, "matrix product", (CopySpeed(10, 50.0), CopySpeed(1000, 20.0)), 0.1)


def layer(flops, moved, seconds, ops=1):
    return LayerCost("a", "Conv2d", 0, flops // 2, flops, None, ops, moved, 1, seconds)


def test_a_layer_lies_under_the_roof_of_its_size_by_hand():
    """30 FLOPs over 10 bytes: 3 FLOP/byte, a copy of 10 bytes makes 50 B/s, so 150 > the peak of 100; in 1 s, 30 % of that."""
    small, large = roofline_of([layer(30, 10, 1.0), layer(300, 300, 30.0)], PEAKS).points
    assert (small.intensity, small.flops_per_s, small.roof_flops_per_s, small.bound) == (3.0, 30.0, 100.0, "compute")
    assert small.share == pytest.approx(0.3)
    assert (large.intensity, large.flops_per_s, large.roof_flops_per_s, large.bound) == (1.0, 10.0, 20.0, "memory")
    assert large.share == pytest.approx(0.5)
    assert not small.above
    assert to_dict(small)["share"] == pytest.approx(0.3)


def test_many_small_kernels_stay_in_the_caches():
    (point,) = roofline_of([layer(100, 100, 10.0, ops=10)], PEAKS).points
    assert point.roof_flops_per_s == 50.0


def test_what_is_faster_than_the_machine_is_said():
    """A count that is ten times too high puts the layer above every roof."""
    right, wrong = roofline_of([layer(90, 10, 1.0), layer(900, 10, 1.0)], PEAKS).points
    assert not right.above
    assert wrong.above


def test_layers_without_figures_have_no_dot():
    found = roofline_of([layer(0, 10, 1.0), layer(10, 10, None)], PEAKS)
    assert (found.points, found.left_out) == ((), 1)


def test_peaks_of_this_machine():
    found = measure_peaks(CPU, torch.float32, 1)
    assert found.threads == 1
    assert found.flops_per_s > 1e8
    assert found.copies[0].bytes < found.copies[-1].bytes
    assert found.most_bytes_per_s >= found.memory_bytes_per_s > 1e7
    assert "product" in found.fastest or "convolution" in found.fastest


def test_profile_and_diff_have_it_and_keep_it():
    model, x = tiny_resnet.build(depth=1, width=8), tiny_resnet.example_inputs()
    timing = Timing(budget_s=0.1, roofline=True)
    found = surgeon.profile(model, x, timing=timing)
    assert from_dict(type(found), to_dict(found)) == found
    assert {point.path for point in found.roofline.points} >= {"conv1", "layer1.0.conv1", "fc"}
    converted = surgeon.convert(model, x).model
    both = surgeon.diff(model, converted, x, timing=timing)
    assert both.a.roofline.peaks == both.b.roofline.peaks
    assert surgeon.profile(model, x, timing=Timing(budget_s=0.1)).roofline is None


def test_a_roofline_needs_layer_times():
    with pytest.raises(UsageError, match="layer times"):
        Timing(roofline=True, per_layer=False)
