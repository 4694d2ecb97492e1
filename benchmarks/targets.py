"""Every target on the sample models and on real ones: does it start equal, learn, and fold to plain convolutions?

``python -m benchmarks.targets [--processes 2] [--first N]``. Each model is converted by the public call, trained for two real
steps in training mode (a loss on random images: the statistics of norms move), moved on at random, folded, and compared with what
it computed before. What is counted of the folded model is compared with that of the untouched one whose norms are folded. What
went wrong, and models that cannot be trained so, are in the record.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import traceback
import warnings
from collections import Counter
from typing import Any

from benchmarks.recording import record

MERGED = ("refconv", "dbb", "acb", "repvgg", "dilated-reparam")
TARGETS = (*MERGED, "wtconv", "dcnv2")
SAMPLES = ("tiny_resnet", "tiny_unet", "tiny_segmenter", "tiny_attention", "tiny_yolo", "tiny_mobilenet", "awkward")
TIMM = """
resnet10t resnet14t resnet18 resnet18d resnet26 resnet34 resnet50 resnext26ts seresnet18 legacy_seresnet18 skresnet18 resnest14d
regnetx_002 regnety_002 regnetx_004 mobilenetv2_050 mobilenetv2_100 mobilenetv3_small_050 mobilenetv3_small_100
mobilenetv3_large_075 efficientnet_b0 efficientnet_lite0 mnasnet_small mnasnet_050 ghostnet_050 densenet121 dla34 dla46_c
hrnet_w18_small vgg11_bn vgg13 repvgg_a0 mobileone_s0 convnext_atto convnextv2_atto edgenext_xx_small semnasnet_075 spnasnet_100
fbnetc_100 hardcorenas_a tinynet_e lcnet_035 rexnet_100 ese_vovnet19b_dw cs3darknet_s selecsls42 gernet_s poolformer_s12
""".split()
TORCHVISION = ("squeezenet1_0", "shufflenet_v2_x0_5", "googlenet", "mnasnet0_5")
SIZE = 64
STEPS = 2


def models() -> list[str]:
    """All of them, as the command line takes them."""
    samples = [f"sample_models/{name}.py:build" for name in SAMPLES]
    return [*samples, *(f"timm:{name}" for name in TIMM), *(f"torchvision:{name}" for name in TORCHVISION)]


def examine(job: tuple[str, str]) -> dict[str, Any]:
    """One model with one target."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    spec, target = job
    try:
        return {"model": spec, "target": target} | _examined(spec, target)
    except Exception as error:
        return {
            "model": spec,
            "target": target,
            "error": f"{type(error).__name__}: {error}"[:300],
            "where": traceback.format_exc()[-600:],
        }


def _examined(spec: str, target: str) -> dict[str, Any]:
    import torch
    from torch import nn

    import saconv_surgeon as surgeon
    from saconv_surgeon.models.loading.input_spec import make_inputs, offered_inputs
    from saconv_surgeon.models.loading.model_spec import load_model
    from tests.oracle_branches import shake
    from tests.zoo.examine import randomise

    torch.manual_seed(0)
    loaded = load_model(spec)
    is_sample = spec.startswith("sample_models")
    inputs = offered_inputs(loaded) if is_sample else make_inputs((f"2x3x{SIZE}x{SIZE}",), seed=0)
    model = loaded.module.eval()
    randomise(model)
    conversion = surgeon.convert(model, inputs, target=target, trials=1)
    layers = sum(site.converts for site in conversion.plan.sites)
    found: dict[str, Any] = {
        "layers": layers,
        "bit_equal": conversion.equivalence.bit_equal,
        "max_rel": conversion.equivalence.max_rel,
    }
    if not layers:
        return found
    trained = conversion.model
    found["trained"] = _trained(trained, inputs)
    for layer in trained.modules():
        if isinstance(layer, surgeon.ConvertedLayer):  # further than two steps bring it
            shake(layer, 0, 0.1)
    trained.eval()
    moved = sum(not layer.is_at_rest() for layer in trained.modules() if isinstance(layer, surgeon.ConvertedLayer))
    folding = surgeon.fold(trained, inputs)
    kinds = Counter(type(m).__name__ for m in folding.model.modules() if isinstance(m, surgeon.ConvertedLayer))
    with torch.no_grad():
        before, after = (_first(inputs.run(m)) for m in (trained, folding.model))
    scale = float(before.abs().max()) or 1.0
    plain = surgeon.fold(model, inputs, fold_norms=True).model
    macs = [surgeon.profile(m, inputs, timing=None).macs for m in (plain, folding.model)]
    return found | {
        "moved": moved,
        "left": dict(kinds),
        "fold_error": float((before - after).abs().max()) / scale,
        "proved": bool(folding.equivalence is None or folding.equivalence.passed),
        "macs_ratio": macs[1] / macs[0] if macs[0] else None,
        "convs": sum(type(m) is nn.Conv2d for m in folding.model.modules()),
    }


def _first(output: Any) -> Any:
    import torch
    from torch.utils import _pytree as pytree

    return next(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)).double()


def _trained(model: Any, inputs: Any) -> bool:
    """Two steps; False if the model cannot be trained on these inputs."""
    import torch

    import saconv_surgeon as surgeon

    model.train()
    optimizer = torch.optim.SGD(surgeon.parameter_groups(model, lr=1e-3))
    try:
        for _ in range(STEPS):
            loss = _first(model(*inputs.args, **inputs.kwargs)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
            optimizer.step()
    except Exception:
        return False
    return True


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By target: on how many models it fits, and the worst of what was found."""
    result = {}
    for target in TARGETS:
        own = [row for row in rows if row["target"] == target]
        fits = [row for row in own if row.get("layers")]
        result[target] = {
            "models": len(own),
            "fits": len(fits),
            "layers": sum(row["layers"] for row in fits),
            "bit_equal": sum(row["bit_equal"] for row in fits),
            "trained": sum(row["trained"] for row in fits if "trained" in row),
            "folded_plain": sum(not row["left"] for row in fits if "left" in row),
            "worst_start": max((row["max_rel"] for row in fits), default=None),
            "worst_fold": max((row["fold_error"] for row in fits if "fold_error" in row), default=None),
            "same_macs": sum(row.get("macs_ratio") == 1.0 for row in fits),
            "errors": [f"{row['model']}: {row['error']}" for row in own if "error" in row],
        }
    return result


def main() -> None:
    """Runs what was asked for, and records it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, default=None, help="only the first so many models")
    parser.add_argument(
        "--only", choices=TARGETS, help="one target, recorded by itself: dcnv2 where torchvision's operator loads"
    )
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs = [(spec, target) for spec in models()[: asked.first] for target in TARGETS if asked.only in (None, target)]
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        rows = []
        for row in pool.imap_unordered(examine, jobs):
            rows.append(row)
            if "error" in row:
                print(row["model"], row["target"], row["error"], flush=True)
    rows.sort(key=lambda row: (row["model"], row["target"]))
    record("targets" if asked.only is None else f"only-{asked.only}", {"summary": summary(rows), "rows": rows})


if __name__ == "__main__":
    main()
