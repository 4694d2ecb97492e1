"""Ultralytics: converted models that survive ``fuse()`` and training.

Two habits of that library destroy a converted model without a word:

* ``fuse()``, which ``val``, ``predict`` and ``export`` call, folds the norm of every ``Conv`` block into ``conv.weight``, which
  a converted layer standardises before use. :func:`protect` gives the blocks around converted layers classes that ``fuse()``
  passes by. The classes travel with a pickled model, so a checkpoint stays protected wherever it is loaded.
  ``surgeon.apply`` and everything built on it protect by themselves.
* ``train()`` rebuilds the model from its configuration, with plain convolutions. The trainers here put the converted
  layers back and load every weight.

::

    from saconv_surgeon.integrations.ultralytics import YOLO

    YOLO("converted.pt").train(data="coco8.yaml", epochs=3)

or, with the stock class, ``ultralytics.YOLO("converted.pt").train(trainer=SurgicalDetectionTrainer, data=…)``. A stock trainer
(``YOLO.train()`` of its own, ``yolo train`` in a shell) warns when it drops converted layers, and so does every process that
loads the checkpoint which it writes.

:func:`register` teaches YAML files the blocks of this package.

Importing this package, which loading a converted checkpoint does, changes three things in Ultralytics: ``model.load()`` keeps
converted layers, unpickling a model compares its layers with its configuration, and the GFLOPs of summaries count converted
layers. Plain models are not concerned.
"""

from saconv_surgeon.integrations.layers_in_models import RECORD, Surgery
from saconv_surgeon.integrations.ultralytics import trainers
from saconv_surgeon.integrations.ultralytics.configured_blocks import C2f_SAConv, C3k2_SAConv
from saconv_surgeon.integrations.ultralytics.flop_counts import count_converted_layers
from saconv_surgeon.integrations.ultralytics.layers_in_configuration import surgery_of
from saconv_surgeon.integrations.ultralytics.loading import keep_layers_when_loading
from saconv_surgeon.integrations.ultralytics.model_checks import check_unpickled_models
from saconv_surgeon.integrations.ultralytics.model_classes import YOLO, SurgicalRTDETR, SurgicalYOLO
from saconv_surgeon.integrations.ultralytics.protected_blocks import (
    PROTECTING,
    SurgicalBlock,
    SurgicalConv,
    SurgicalConv2,
    SurgicalRepConv,
    SurgicalRepVGGDW,
    protect,
    unprotect,
)
from saconv_surgeon.integrations.ultralytics.registration import register, unregister
from saconv_surgeon.integrations.ultralytics.trainers import *  # noqa: F403 - some depend on the version

__all__ = [
    *trainers.__all__,
    "PROTECTING",
    "RECORD",
    "YOLO",
    "C2f_SAConv",
    "C3k2_SAConv",
    "Surgery",
    "SurgicalBlock",
    "SurgicalConv",
    "SurgicalConv2",
    "SurgicalRTDETR",
    "SurgicalRepConv",
    "SurgicalRepVGGDW",
    "SurgicalYOLO",
    "protect",
    "register",
    "surgery_of",
    "unprotect",
    "unregister",
]

keep_layers_when_loading()
check_unpickled_models()
count_converted_layers()
