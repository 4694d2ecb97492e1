"""Every target on every sample model: preserved or explained, saved and restored, counted, compared, inspected."""

import functools
import importlib
import warnings

import pytest
from torch.utils.flop_counter import FlopCounterMode

import saconv_surgeon as surgeon
from saconv_surgeon.convs.converted import ConvertedLayer
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.state import preserved
from tests.operators import whole_operator  # noqa: F401 - a fixture
from tests.samples.test_samples_converted import NAMES

CASES = {
    "saconv-absorb": {"target": "saconv", "absorb": True, "allow_depthwise": True},
    "aws": {"target": "aws"},
    "saconv-deform": {"target": "saconv-deform"},
    "saconv-deform-absorb": {"target": "saconv-deform", "absorb": True, "allow_depthwise": True},
    "spconv-1/2": {"target": "spconv"},
    "spconv-1/4": {"target": "spconv", "options": {"ratio": "1/4"}},
    "spconv-1/8-random": {"target": "spconv", "options": {"ratio": "1/8"}, "init": "random"},
}
NOTHING_TO_SPLIT = {("tiny_mobilenet", "spconv"), ("awkward", "spconv-1/8")}
LARGE = ("tiny_yolo", "tiny_unet")
"""Slow ones: with deformable branches only small blocks and a quarter of the image, with one ratio of SPConv."""
ON_SMALL_ONES = ("saconv-deform", "spconv-1/4", "spconv-1/8-random")
QUICK = {
    ("tiny_resnet", "aws"),
    ("tiny_resnet", "spconv-1/2"),
    ("tiny_resnet", "spconv-1/8-random"),
    ("tiny_segmenter", "saconv-absorb"),
    ("tiny_segmenter", "saconv-deform"),
    ("tiny_mobilenet", "saconv-absorb"),
    ("tiny_mobilenet", "spconv-1/4"),
    ("awkward", "aws"),
    ("awkward", "spconv-1/8-random"),
}
"""Every target on some models; the others take two to fifteen seconds each."""
PAIRS = [
    pytest.param(name, case, marks=[pytest.mark.slow] * ((name, case) not in QUICK))
    for case in CASES
    for name in NAMES
    if not (name in LARGE and case in ON_SMALL_ONES)
]


def sample(name, case=""):
    module = importlib.import_module(f"sample_models.{name}")
    x = module.example_inputs()
    if name in LARGE and "deform" in case:
        x = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2]
    return module.build(), Inputs.of(x)


@pytest.mark.parametrize(("name", "case"), PAIRS)
@pytest.mark.usefixtures("whole_operator")
def test_target_on_sample(name, case, tmp_path):
    model, inputs = sample(name, case)
    settings = CASES[case] | ({"min_stride": 8} if name in LARGE and "deform" in case else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", surgeon.NoEffectWarning)
        conversion = surgeon.convert(model, inputs, **settings)
    splits = not any(name == n and case.startswith(c) for n, c in NOTHING_TO_SPLIT)
    assert bool(conversion.converted) == splits, [s.reason for s in conversion.plan.sites]
    assert conversion.plan.ledger.balances
    assert all(site.reason for site in conversion.plan.sites if not site.converts)
    _check_outputs(conversion, exact=settings["target"] in ("saconv", "aws"))
    found = _check_restored(conversion, name, inputs, tmp_path)
    if case == "saconv-absorb":
        _check_reverted(conversion, model, inputs)
    _check_counted(conversion, found.a, name, inputs, torch_counts="deform" not in case)
    for site in surgeon.inspect(conversion.model, inputs):
        if isinstance(_at(conversion.model, site.path), ConvertedLayer):
            assert site.reason_code == "already-converted"


def _at(model, path):
    return None if "::" in path else model.get_submodule(path)


def _check_outputs(conversion, *, exact):
    equivalence, explained = conversion.equivalence, conversion.explained
    if explained is None:
        assert equivalence.passed
        assert equivalence.bit_equal or not exact
        assert equivalence.bit_equal or equivalence.note
        return
    assert explained.problems == ()
    assert explained.samples
    assert len(explained.layers) == conversion.converted
    assert all(layer.r2_alone is not None and layer.cosine is not None for layer in explained.layers)
    assert equivalence.passed == (conversion.converted == 0)


def _check_reverted(conversion, model, inputs):
    found = surgeon.diff(model, surgeon.revert(conversion.model), inputs, timing=None)
    assert found.outputs.bit_equal
    assert not found.structure
    assert not (found.weights.changed or found.weights.only_in_a or found.weights.only_in_b)


def _check_restored(conversion, name, inputs, tmp_path):
    surgeon.save(conversion, tmp_path / "out")
    restored = surgeon.restore(sample(name)[0], tmp_path / "out")
    found = surgeon.diff(conversion.model, restored, inputs, timing=None)
    assert found.outputs.bit_equal
    assert not found.structure
    assert not (found.weights.changed or found.weights.only_in_a or found.weights.only_in_b)
    return found


@functools.cache
def _counted(name, deform):
    """The costs of the original, and its FLOPs by torch's counter: the same for several cases."""
    model, inputs = sample(name, "deform" if deform else "")
    return surgeon.profile(model, inputs, timing=None), _flops(model, inputs)


def _check_counted(conversion, after, name, inputs, *, torch_counts):
    before, flops_before = _counted(name, not torch_counts)
    converted = [site for site in conversion.plan.sites if site.converts]
    assert after.parameters - before.parameters == sum(site.added_parameters for site in converted)
    assert not after.uncounted_ops
    layers = {row.path: row for row in after.layers}
    for site in converted:
        assert layers[site.path].type == type(conversion.model.get_submodule(site.path)).__name__
    assert after.macs - before.macs == sum(site.added_macs for site in converted)
    assert after.cross_check.agrees
    if torch_counts:  # torch's counter takes a deformable convolution for nothing
        assert after.macs - before.macs == (_flops(conversion.model, inputs) - flops_before) // 2


def _flops(model, inputs):
    """By torch's own counter, which leaves out attention on a CPU and products of vectors: the samples have some."""
    with preserved(model), FlopCounterMode(display=False) as counter:
        inputs.run(model)
    return counter.get_total_flops()
