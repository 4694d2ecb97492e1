"""What is checked whenever an Ultralytics model is unpickled: by this package, the stock classes or ``torch.load``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ultralytics.nn.tasks import BaseModel

from saconv_surgeon.integrations.layers_in_models import RECORD
from saconv_surgeon.integrations.patching import wrap
from saconv_surgeon.integrations.ultralytics.borrowed_names import name_borrowed_rows
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import (
    Record,
    configuration_of,
    lost_layers,
    unpickled_record,
)
from saconv_surgeon.integrations.ultralytics.loading import REMEDY


def check_unpickled_models() -> None:
    """Makes unpickling an Ultralytics model compare its layers with its configuration.

    ``__setstate__`` of the model runs when all of it is there. What imports this package in the middle of unpickling is a layer
    of it in the model, or the record in its configuration.
    """
    wrap(BaseModel, "__setstate__", _checking)


def _checking(stock: Callable[..., None]) -> Callable[..., None]:
    def __setstate__(self: Any, state: Any) -> None:
        stock(self, state)
        warn_of_lost_layers(self)
        name_borrowed_rows(self)

    return __setstate__


def warn_of_lost_layers(model: Any) -> None:
    """Warns, once after it was unpickled, if layers of ``model`` are plain that its configuration records as converted."""
    configuration = configuration_of(model) or {}
    record = configuration.get(RECORD)
    if type(record) is dict:  # files of older versions
        record = configuration[RECORD] = unpickled_record(record)
    if not isinstance(record, Record) or not record.is_unpickled:
        return
    record.is_unpickled = False
    lost = lost_layers(model)
    if lost:
        warnings.warn(
            f"{len(lost)} of the {len(record)} converted layers of this model are gone: a stock trainer has rebuilt it "
            f"without them. To keep them, {REMEDY}",
            stacklevel=3,
        )
