"""mmengine, and what is built on it (mmdetection, mmsegmentation and their successors): a layer for configurations, and a hook.

::

    custom_imports = dict(imports=["saconv_surgeon.integrations.mmengine"])

    model = dict(backbone=dict(type="ResNet", conv_cfg=dict(type="SACSurgeon")))           # a network that is built with SAConv
    custom_hooks = [dict(type="SurgeryHook", plan="plan.json", network="backbone")]        # or a trained one that is converted

The hook converts when the weights are there: after ``load_from``, before the first iteration. New parts get a group of their
own in the optimiser. Checkpoints carry the plan, so that ``resume``, ``test`` and ``load_from`` of them find their layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS, MODELS
from torch import nn

from saconv_surgeon.convs.saconv import SAConv2d
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.tree.parameter_kinds import NEW_LR, NEW_WEIGHT_DECAY
from saconv_surgeon.records import Plan, to_dict
from saconv_surgeon.surgery.part_of_a_training import carry_part, part_of
from saconv_surgeon.surgery.plan_file import plan_of, read_plan
from saconv_surgeon.surgery.rewriting import apply

LAYER, ENTRY = "SACSurgeon", "saconv_surgeon"
"""The name of the layer in ``conv_cfg``; the entry of checkpoints."""


class SurgeryHook(Hook):
    """Converts a part of the runner's model by a plan, carries the optimiser along, and is resumed.

    Args:
        plan: A plan or its JSON file, of ``saconv-surgeon plan``, ``inspect --json`` or a saved conversion.
        network: The name of the part that the plan was made for; dots go deeper.
        new_lr: The rate of new parts, relative to that of the others.
        new_weight_decay: Their weight decay.
    """

    priority = "VERY_HIGH"

    def __init__(
        self,
        plan: Plan | str | Path,
        network: str = "backbone",
        new_lr: float = NEW_LR,
        new_weight_decay: float = NEW_WEIGHT_DECAY,
    ) -> None:
        self.plan = plan if isinstance(plan, Plan) else read_plan(Path(plan))
        self.network, self.new_lr, self.new_weight_decay = network, new_lr, new_weight_decay
        self.is_converted = False

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """A checkpoint of a converted model finds its layers; called before its weights are loaded."""
        entry = checkpoint.get(ENTRY)
        if entry is not None and not self.is_converted:
            self.plan, self.network = plan_of(entry["plan"], Path("the checkpoint")), entry["network"]
            self._convert(runner)

    def before_train(self, runner: Any) -> None:
        """Converts a model whose weights are loaded."""
        if not self.is_converted:
            self._convert(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The plan goes into the checkpoint."""
        if self.is_converted:
            checkpoint[ENTRY] = {"plan": to_dict(self.plan), "network": self.network}

    def _convert(self, runner: Any) -> None:
        model = runner.model
        optimizers = _optimizers(runner)
        if is_model_wrapper(model) and optimizers:
            raise UsageError(
                f"the model is inside of a {type(model).__name__}, which knows its parameters already: convert first, with "
                "saconv-surgeon convert, and train what it saved"
            )
        inner: nn.Module = model.module if is_model_wrapper(model) else model
        before = part_of(inner, self.network)
        after = apply(before, self.plan).train(before.training)
        inner.set_submodule(self.network, after)
        self.is_converted = True
        rates = {"new_lr": self.new_lr, "new_weight_decay": self.new_weight_decay}
        for optimizer, schedulers in optimizers:
            carry_part(optimizer, inner, before, after, **rates, schedulers=schedulers)


def _optimizers(runner: Any) -> list[tuple[torch.optim.Optimizer, list[Any]]]:
    """The runner's optimisers that are built, each with its schedulers."""
    wrapper = runner.optim_wrapper
    if wrapper is None or isinstance(wrapper, dict):  # a configuration: nothing was built, as for a test
        return []
    single = hasattr(wrapper, "optimizer")
    wrappers = {"": wrapper} if single else dict(wrapper.optim_wrappers)
    schedulers = runner.param_schedulers or []
    by_name = schedulers if isinstance(schedulers, dict) else dict.fromkeys(wrappers, schedulers)
    return [(each.optimizer, list(by_name.get(name, ()))) for name, each in wrappers.items()]


MODELS.register_module(name=LAYER, module=SAConv2d, force=True)
HOOKS.register_module(name="SurgeryHook", module=SurgeryHook, force=True)
