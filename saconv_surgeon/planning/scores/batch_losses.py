"""The user's loss of a model on each of some batches, with what can go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from saconv_surgeon.errors import ModelError, SurgeonError, UsageError, UserCodeError, first_line
from saconv_surgeon.models.running.borrowed import own_tensors_only
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.models.running.output_leaves import collected
from saconv_surgeon.records import Mode

Loss = Callable[[Any, Any], Tensor]
"""``loss(output, batch)``, a scalar."""
InputsOf = Callable[[Any], Inputs]


def at_least_two(batches: Iterable[Any]) -> list[Any]:
    """The batches as a list.

    Raises:
        UsageError: There are fewer than two.
    """
    found = list(batches)
    if len(found) < 2:
        seen = "one batch" if found else "no batch"
        raise UsageError(
            f"the data gave {seen}; a score is fitted to one half of the batches and tried on the other, so give at least two, "
            "better sixteen"
        )
    return found


def training_without_noise(model: nn.Module, mode: Mode) -> None:
    """Puts ``model`` into ``mode``, in place; norms, and parts that draw random numbers, are in eval mode in either.

    In train mode models return what losses are made for. Norms must not mix the samples of a batch, whose gradients are told
    apart, nor count these batches; dropout would be noise. So modules without children are in eval mode, whatever they are.
    """
    model.train(mode == "train")
    for module in model.modules():
        if module is not model and (isinstance(module, _NormBase) or next(module.children(), None) is None):
            module.eval()


@dataclass
class BatchLosses:
    """``loss`` of ``model``, a copy of ``original``. The first batch shows the mode that the loss is for: train mode if it can be
    computed there, otherwise eval mode.
    """

    original: nn.Module
    model: nn.Module
    loss: Loss
    inputs_of: InputsOf
    mode: Mode | None = None

    def __call__(self, batch: Any) -> Tensor:
        """The loss of one batch, with its graph.

        Raises:
            UsageError: It is no scalar, is not finite, or depends on nothing that is trained.
            UserCodeError: The user's loss raised.
            ModelError: The model raised.
        """
        if self.mode is not None:
            return self._in(self.mode, batch)
        try:
            with own_tensors_only(self.original, self.model):
                found = self._in("train", batch)
            self.mode = "train"
        except Exception as error:
            try:
                found = self._in("eval", batch)
            except SurgeonError:
                raise error from error.__cause__
            self.mode = "eval"
        return found

    def _in(self, mode: Mode, batch: Any) -> Tensor:
        training_without_noise(self.model, mode)
        given = self.inputs_of(batch).copied()
        try:
            output = collected(self.model(*given.args, **given.kwargs))
        except SurgeonError:
            raise
        except Exception as error:
            raise ModelError(
                f"{type(self.model).__name__} cannot be run on a batch of the data ({type(error).__name__}: {first_line(error)})"
            ) from error
        try:
            found = self.loss(output, batch)
        except SurgeonError:
            raise
        except Exception as error:
            raise UserCodeError(f"the loss raised {type(error).__name__}: {first_line(error)}") from error
        return checked(found)


def checked(loss: Any) -> Tensor:
    """``loss`` as a tensor without dimensions.

    Raises:
        UsageError: It is no scalar, is not finite, or has no gradient.
    """
    if not isinstance(loss, Tensor):
        raise UsageError(f"the loss is a {type(loss).__name__}; needed: a tensor with one number")
    if loss.numel() != 1:
        raise UsageError(f"the loss has the shape {tuple(loss.shape)}; needed: one number, so add .mean() or .sum()")
    if not loss.is_floating_point():
        raise UsageError(f"the loss is of the dtype {str(loss.dtype).removeprefix('torch.')}, which has no gradient")
    if not bool(loss.isfinite().all()):
        raise UsageError(f"the loss is {loss.item()}, so no gradient says anything; look at the data and at the loss")
    if not loss.requires_grad:
        raise UsageError(
            "the loss does not depend on any of the layers: it has no gradient; compute it from the output, without .item(), "
            ".detach() or torch.no_grad()"
        )
    return loss.reshape(())
