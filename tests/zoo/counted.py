"""What the counting engines say of one model, beside what is known of it by other means."""

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import saconv_surgeon as surgeon
from saconv_surgeon.models.loading.input_spec import offered_inputs
from saconv_surgeon.models.loading.model_spec import load_model
from saconv_surgeon.models.running.inputs import Inputs
from tests.profiling.counting.by_hand import WHOLE

SAMPLES = tuple(
    f"sample_models/{name}.py:build"
    for name in (
        "awkward",
        "tiny_attention",
        "tiny_mobilenet",
        "tiny_resnet",
        "tiny_segmenter",
        "tiny_unet",
        "tiny_yolo",
    )
)
PUBLISHED = tuple(
    [
        f"torchvision:{name}"
        for name in """
        alexnet vgg11 resnet18 resnet34 resnet50 resnet101 resnext50_32x4d wide_resnet50_2 mobilenet_v2 mobilenet_v3_large
        efficientnet_b0 densenet121 googlenet inception_v3 shufflenet_v2_x1_0 squeezenet1_1 regnet_y_400mf convnext_tiny swin_t
        vit_b_16 maxvit_t lraspp_mobilenet_v3_large deeplabv3_mobilenet_v3_large raft_small r3d_18
    """.split()
    ]
    + [
        f"timm:{name}"
        for name in """
        resnet50 vit_tiny_patch16_224 vit_small_patch16_224 tf_efficientnet_b0 tf_mobilenetv3_small_075 mixnet_s nfnet_l0
        botnet26t_256 halonet26t lambda_resnet26t coatnet_pico_rw_224 efficientformer_l1 ghostnet_100 hrnet_w18_small
        convmixer_768_32 mobilevit_xs poolformer_s12 xcit_nano_12_p16_224 levit_128s sequencer2d_s
    """.split()
    ]
)
MISSED_BY_THE_COUNTER = {
    "sample_models/awkward.py:build": (8 + 8 * 72, "the two vector products of spectral norm"),
    "timm:sequencer2d_s": (None, "its LSTMs: every weight matrix once for each row and column of the map"),
}
"""MACs that torch's own counter gives nothing for, by hand where that is a number."""


def open_model(spec):
    torch.manual_seed(0)
    loaded = load_model(spec)
    return loaded.module.eval(), Inputs.of(offered_inputs(loaded))


def counted(model, inputs):
    return surgeon.profile(model, inputs, timing=None)


def by_torch(model, inputs):
    """Half of what ``FlopCounterMode`` says by itself, with attention in the open."""
    model.requires_grad_(False)  # it wants gradients of what is given to a module otherwise
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            inputs.run(model)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 2


def by_plain_fvcore(model, inputs):
    """What fvcore prints, used as its documentation says; None where it takes neither the inputs nor the outputs."""
    analysis = FlopCountAnalysis(model, inputs.args)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    try:
        return None if inputs.kwargs else analysis.total()
    except RuntimeError as error:
        if "supported as JIT inputs/outputs" in str(error):
            return None
        raise


def lstm_macs(model, inputs):
    """What torch's counter gives nothing for in a model with LSTMs, from the weights and the sequences that they really see."""
    total, handles = 0, []

    def seen(module, args, output):
        nonlocal total
        steps = args[0].shape[0] * args[0].shape[1]
        total += steps * sum(p.numel() for name, p in module.named_parameters() if name.startswith("weight"))

    for module in model.modules():
        if isinstance(module, nn.LSTM):
            handles.append(module.register_forward_hook(seen))
    inputs.run(model)
    for handle in handles:
        handle.remove()
    return total


def check(spec):
    """Counts ``spec`` in every way there is, asserts that all agree, and gives a row for the table."""
    model, inputs = open_model(spec)
    found = counted(model, inputs)
    assert found.uncounted_ops == {}, spec
    assert found.parameters == sum(p.numel() for p in model.parameters()), spec
    plain = by_plain_fvcore(model, inputs)
    assert plain in (None, found.fvcore_flops), spec
    missed = 0
    if spec in MISSED_BY_THE_COUNTER:
        missed = MISSED_BY_THE_COUNTER[spec][0] or lstm_macs(model, inputs)
        assert missed
    assert found.macs == by_torch(model, inputs) + missed, spec
    if spec in WHOLE:
        assert found.macs == WHOLE[spec], spec
    for figure in ("macs", "flops", "activations", "parameters", "ops", "bytes_moved"):
        assert sum(getattr(layer, figure) for layer in found.layers) == getattr(found, figure), (spec, figure)
    return {
        "spec": spec,
        "parameters": found.parameters,
        "macs": found.macs,
        "flops": found.flops,
        "fvcore_flops": found.fvcore_flops,
        "ops": found.ops,
        "bytes_moved": found.bytes_moved,
        "by_hand": spec in WHOLE,
        "missed": missed,
        "agrees": found.cross_check is not None and found.cross_check.agrees,
        "note": found.note,
    }
