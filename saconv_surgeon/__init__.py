"""Swap the convolutions of a trained PyTorch model for switchable atrous ones without losing a prediction.

    import saconv_surgeon as surgeon

    conversion = surgeon.convert(model, example_inputs)   # ``model`` is not modified
    surgeon.save(conversion, "out")
    model = surgeon.restore(make_model(), "out")          # in your training script

The names below are imported when they are first used, so that importing the package does not import torch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from saconv_surgeon._version import __version__

if TYPE_CHECKING:
    from saconv_surgeon.api import convert, diff, fold, inspect, plan, price, profile, receptive_field
    from saconv_surgeon.convs.aws import ConvAWS2d
    from saconv_surgeon.convs.block import SAConvBlock
    from saconv_surgeon.convs.branches import Branch, Merged, SmallKernel
    from saconv_surgeon.convs.converted import ConvertedLayer
    from saconv_surgeon.convs.deformable import DeformableSAConv2d
    from saconv_surgeon.convs.kernel_guard import guard
    from saconv_surgeon.convs.mergeable import MergeableConv2d
    from saconv_surgeon.convs.saconv import SAConv2d
    from saconv_surgeon.convs.spconv import SPConv2d
    from saconv_surgeon.convs.targets.target import Cost, Option, Reason, Target
    from saconv_surgeon.convs.weight_readers import unguarded
    from saconv_surgeon.errors import (
        ArtefactError,
        FusingMethodWarning,
        LostLayerWarning,
        ModelError,
        NoEffectWarning,
        NotEquivalentError,
        NotPlainError,
        NotPlainWarning,
        SurgeonError,
        UntrustedError,
        UsageError,
        UserCodeError,
    )
    from saconv_surgeon.folding.folded_model import Folding
    from saconv_surgeon.models.tree.parameter_kinds import new_parameters
    from saconv_surgeon.profiling.counting.user_formulas import OperationCost, count_operation
    from saconv_surgeon.records import Timing
    from saconv_surgeon.saving.restore import restore
    from saconv_surgeon.saving.save import save
    from saconv_surgeon.surgery.converted_model import Conversion
    from saconv_surgeon.surgery.optimizer import carry_optimizer
    from saconv_surgeon.surgery.parameter_groups import parameter_groups
    from saconv_surgeon.surgery.published_checkpoints import load_published, published_state
    from saconv_surgeon.surgery.rewriting import apply, revert

_HOMES = {
    "api": ("convert", "diff", "fold", "inspect", "plan", "price", "profile", "receptive_field"),
    "convs.aws": ("ConvAWS2d",),
    "convs.block": ("SAConvBlock",),
    "convs.branches": ("Branch", "Merged", "SmallKernel"),
    "convs.converted": ("ConvertedLayer",),
    "convs.deformable": ("DeformableSAConv2d",),
    "convs.kernel_guard": ("guard",),
    "convs.mergeable": ("MergeableConv2d",),
    "convs.weight_readers": ("unguarded",),
    "convs.saconv": ("SAConv2d",),
    "convs.spconv": ("SPConv2d",),
    "convs.targets.target": ("Cost", "Option", "Reason", "Target"),
    "errors": (
        *("ArtefactError", "FusingMethodWarning", "LostLayerWarning", "ModelError", "NoEffectWarning"),
        *(
            "NotEquivalentError",
            "NotPlainError",
            "NotPlainWarning",
            "SurgeonError",
            "UntrustedError",
            "UsageError",
            "UserCodeError",
        ),
    ),
    "folding.folded_model": ("Folding",),
    "profiling.counting.user_formulas": ("OperationCost", "count_operation"),
    "models.tree.parameter_kinds": ("new_parameters",),
    "records": ("Timing",),
    "saving.restore": ("restore",),
    "saving.save": ("save",),
    "surgery.converted_model": ("Conversion",),
    "surgery.published_checkpoints": ("load_published", "published_state"),
    "surgery.rewriting": ("apply", "revert"),
    "surgery.optimizer": ("carry_optimizer",),
    "surgery.parameter_groups": ("parameter_groups",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ArtefactError",
    "Branch",
    "ConvAWS2d",
    "Conversion",
    "ConvertedLayer",
    "Cost",
    "DeformableSAConv2d",
    "Folding",
    "FusingMethodWarning",
    "LostLayerWarning",
    "MergeableConv2d",
    "Merged",
    "ModelError",
    "NoEffectWarning",
    "NotEquivalentError",
    "NotPlainError",
    "NotPlainWarning",
    "OperationCost",
    "Option",
    "Reason",
    "SAConv2d",
    "SAConvBlock",
    "SPConv2d",
    "SmallKernel",
    "SurgeonError",
    "Target",
    "Timing",
    "UntrustedError",
    "UsageError",
    "UserCodeError",
    "__version__",
    "apply",
    "carry_optimizer",
    "convert",
    "count_operation",
    "diff",
    "fold",
    "guard",
    "inspect",
    "load_published",
    "new_parameters",
    "parameter_groups",
    "plan",
    "price",
    "profile",
    "published_state",
    "receptive_field",
    "restore",
    "revert",
    "save",
    "unguarded",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _join(library: str, loaded: str) -> None:
    """Imports the integration of a library that rebuilds models itself, if the process uses that library.

    Unpickling a layer imports this package: so its checkpoints are looked after in processes that never name the integration.
    """
    if loaded in sys.modules:
        importlib.import_module(f"{__name__}.integrations.{library}")


_join("ultralytics", loaded="ultralytics.engine.model")
