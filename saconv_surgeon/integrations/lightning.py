"""PyTorch Lightning: a callback that converts the network of a ``LightningModule``, at the start of a training or in its middle.

::

    from saconv_surgeon.integrations.lightning import Surgery

    trainer = Trainer(callbacks=[Surgery(torch.rand(1, 3, 224, 224), epoch=5, include=["layer3.*"])])
    trainer.fit(module, loader)                      # module.model is converted at the start of epoch 5
    trainer.fit(module, loader, ckpt_path="last.ckpt")  # a fresh module: is converted as the checkpoint says

Imports no more of Lightning than its callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from saconv_surgeon import api
from saconv_surgeon.comparing.layer_use import layer_use
from saconv_surgeon.errors import ArtefactError, UsageError
from saconv_surgeon.models.loading.in_memory import opened
from saconv_surgeon.models.tree.parameter_kinds import NEW_LR, NEW_WEIGHT_DECAY
from saconv_surgeon.records import Freedom, to_dict
from saconv_surgeon.surgery.converted_model import Conversion
from saconv_surgeon.surgery.new_parts_group import split_new_parts
from saconv_surgeon.surgery.part_of_a_training import carry_part, part_of
from saconv_surgeon.surgery.plan_file import plan_of
from saconv_surgeon.surgery.rewriting import apply

ENTRY = "saconv_surgeon"
"""The entry of a checkpoint: the plan, the proof, and which part of the module was converted."""
FIGURES = ("switch_mean", "weight_diff", "pre_context", "post_context", "moved")
"""What is logged of each layer; ``saconv_surgeon.records.Freedom`` says what they are."""


class Surgery(Callback):
    """Converts a part of a module, gives what is new its own rate, logs what layers do with it, and is resumed.

    With ``epoch`` 0 the network is converted before optimisers are made. Later, the optimisers and the schedulers of their rates
    are carried along, with a group ``"new parts"`` more; then the module must not be wrapped (DDP, FSDP).

    Attributes:
        conversion: What :func:`saconv_surgeon.convert` gave; None before, and if a checkpoint was resumed.

    Args:
        example_inputs: What the network is run on; None for the module's ``example_input_array``.
        epoch: At the start of which epoch.
        network: The name of the part of the module that is converted, as ``module.model``; dots go deeper.
        new_lr: The rate of new parts, relative to that of the others.
        new_weight_decay: Their weight decay.
        figures: Log figures of each layer at the end of each epoch, to whatever logger the trainer has.
        **how: As for :func:`saconv_surgeon.convert`: ``include``, ``plan``, ``target`` …
    """

    def __init__(
        self,
        example_inputs: Any = None,
        *,
        epoch: int = 0,
        network: str = "model",
        new_lr: float = NEW_LR,
        new_weight_decay: float = NEW_WEIGHT_DECAY,
        figures: bool = True,
        **how: Any,
    ) -> None:
        self.example_inputs, self.epoch, self.network = example_inputs, epoch, network
        self.new_lr, self.new_weight_decay, self.figures, self.how = new_lr, new_weight_decay, figures, how
        self.conversion: Conversion | None = None
        self.entry: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Converts for epoch 0, unless a checkpoint says more; sees to it that one that is loaded finds its layers."""
        part_of(pl_module, self.network)
        if stage != "fit":
            return
        self._convert_when_loading(pl_module)
        if self.epoch == 0 and trainer.ckpt_path is None and self.entry is None:
            self._convert(pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Optimisers were made over the converted network: new parts get their group."""
        if self.entry is not None:
            for optimizer, schedulers in _optimizers(trainer):
                self._split(pl_module, optimizer, schedulers)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Converts in the middle of a training."""
        if self.entry is not None or trainer.current_epoch < self.epoch:
            return
        wrapper = trainer.strategy.model
        if wrapper is not pl_module:
            raise UsageError(
                f"the module is inside of a {type(wrapper).__name__}, which knows its parameters already; convert at epoch 0, or "
                "save a checkpoint, convert it, and go on from there"
            )
        before = part_of(pl_module, self.network)
        self._convert(pl_module)
        after = part_of(pl_module, self.network)
        rates = {"new_lr": self.new_lr, "new_weight_decay": self.new_weight_decay}
        for optimizer, schedulers in _optimizers(trainer):
            carry_part(optimizer, pl_module, before, after, **rates, schedulers=schedulers)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what each layer does with what is new, over the example inputs."""
        if self.entry is None or not self.figures:
            return
        network = part_of(pl_module, self.network)
        _, inputs = opened(network, self._inputs(pl_module))
        for record in layer_use(network, inputs):
            pl_module.log_dict(_figures(record), on_step=False, on_epoch=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Plan and proof go into the checkpoint."""
        if self.entry is not None:
            checkpoint[ENTRY] = self.entry

    def _convert(self, module: LightningModule) -> None:
        network = part_of(module, self.network)
        self.conversion = api.convert(network, self._inputs(module), **self.how)
        if not self.conversion.acceptable:
            raise ArtefactError(
                "the converted network does not compute what it computed before; see conversion.equivalence"
            )
        module.set_submodule(self.network, self.conversion.model.train(network.training))
        plan, proof = to_dict(self.conversion.plan), to_dict(self.conversion.equivalence)
        self.entry = {"network": self.network, "plan": plan, "equivalence": proof}

    def _inputs(self, module: LightningModule) -> Any:
        inputs = module.example_input_array if self.example_inputs is None else self.example_inputs
        if inputs is None:
            raise UsageError("give Surgery example inputs of the network, or the module an example_input_array")
        return _moved(inputs, module.device)

    def _split(self, module: LightningModule, optimizer: torch.optim.Optimizer, schedulers: list[Any]) -> None:
        network = part_of(module, self.network)
        split_new_parts(
            optimizer, network, new_lr=self.new_lr, new_weight_decay=self.new_weight_decay, schedulers=schedulers
        )

    def _convert_when_loading(self, module: LightningModule) -> None:
        stock: Callable[[dict[str, Any]], None] = module.on_load_checkpoint

        def on_load_checkpoint(checkpoint: dict[str, Any]) -> None:
            if ENTRY in checkpoint and self.entry is None:
                self.entry = convert_as(module, checkpoint)
            stock(checkpoint)

        module.on_load_checkpoint = on_load_checkpoint

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves no function of this callback on the module."""
        vars(pl_module).pop("on_load_checkpoint", None)


def load(module: LightningModule, checkpoint: str | Path) -> LightningModule:
    """``module``, as your code builds it, with its network converted and its weights loaded as in ``checkpoint``; in place.

    Raises:
        ArtefactError: The checkpoint has no record of a conversion, or belongs to another network.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    convert_as(module, content)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])
    return module


def convert_as(module: LightningModule, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the network of ``module``, in place, as the one was that ``checkpoint`` is of; its record.

    Raises:
        ArtefactError: The checkpoint has none, or the plan does not fit the network.
    """
    entry = checkpoint.get(ENTRY)
    if not isinstance(entry, dict) or not isinstance(entry.get("plan"), dict):
        raise ArtefactError(
            "the checkpoint has no record of a conversion: it was not written with the callback Surgery"
        )
    name = str(entry.get("network"))
    network = part_of(module, name)
    module.set_submodule(name, apply(network, plan_of(entry["plan"], Path("the checkpoint"))).train(network.training))
    return entry


def _optimizers(trainer: Trainer) -> list[tuple[torch.optim.Optimizer, list[Any]]]:
    """The trainer's optimisers, each with its schedulers."""
    configured = [config.scheduler for config in trainer.lr_scheduler_configs]
    return [(o, [s for s in configured if getattr(s, "optimizer", None) is o]) for o in trainer.optimizers]


def _figures(record: Freedom) -> dict[str, float]:
    values = {name: getattr(record, name) for name in FIGURES}
    return {f"saconv/{record.path}/{name}": float(value) for name, value in values.items() if value is not None}


def _moved(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, torch.Tensor):
        return inputs.to(device)
    if isinstance(inputs, dict):
        return {name: _moved(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(_moved(value, device) for value in inputs)
    return inputs
