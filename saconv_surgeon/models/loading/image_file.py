"""A user's picture as the input of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saconv_surgeon.errors import UsageError, first_line
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records.input_files import NotReadableError, open_regular

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that torchvision's classifiers are trained with."""
MOST_PIXELS = 100_000_000


@dataclass(frozen=True, eq=False)
class PictureInput:
    """``inputs`` with the picture in the place of the images; ``grey`` is it as it is seen, (H, W), from 0 to 1."""

    inputs: Inputs
    grey: Tensor
    normalised: str


def picture_as_input(path: Path, model: nn.Module, inputs: Inputs) -> PictureInput:
    """The picture at ``path``, scaled and cropped in the middle to the size of the images in ``inputs``, as a batch of one.

    Values are from 0 to 1, then normalised as timm's own configuration of the model says, not at all for Ultralytics' models, and
    else with the mean and the deviation of ImageNet. The largest image of three channels or one is replaced.

    Raises:
        UsageError: Pillow is missing, the file is no picture, or the model takes no images.
    """
    images = [t for t in inputs.tensors if t.is_floating_point() and t.dim() == 4 and t.shape[1] in (1, 3)]
    if not images:
        raise UsageError(f"--image {path}: the model takes no batch of images of one or three channels")
    place = max(images, key=Tensor.numel)
    seen = _read(path, place.shape[-2], place.shape[-1], place.shape[1])
    mean, deviation, said = _normalisation(model, place.shape[1])
    channels = (seen - mean.view(-1, 1, 1)) / deviation.view(-1, 1, 1)
    batch = channels.unsqueeze(0).to(place)
    given = inputs.samples(0, 1) if inputs.batch else inputs
    replaced = given.mapped(lambda t: batch.clone() if t.shape[1:] == place.shape[1:] and t.dim() == 4 else t)
    return PictureInput(replaced, seen.mean(dim=0), said)


def _read(path: Path, height: int, width: int, channels: int) -> Tensor:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UsageError("--image needs Pillow: pip install pillow") from None
    try:
        with open_regular(path) as file, Image.open(file) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise UsageError(f"--image {path} has {opened.width}×{opened.height} pixels; give a smaller one")
            upright = _opaque(_eight_bits(ImageOps.exif_transpose(opened), path)).convert(
                "L" if channels == 1 else "RGB"
            )
            fitted = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
    except UsageError:
        raise
    except (OSError, NotReadableError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"--image {path} is no picture that can be read: {first_line(error)}") from error
    values = torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)
    return values.unsqueeze(0) if channels == 1 else values.permute(2, 0, 1)


def _eight_bits(image: Any, path: Path) -> Any:
    """Pillow cuts values of sixteen bits off at 255; here they are scaled."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UsageError(f"--image {path} has values of 32 bits, whose range is not known; save it with 8 or 16")
    return image


def _opaque(image: Any) -> Any:
    """Over white, if it can be seen through."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    from PIL import Image

    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _normalisation(model: nn.Module, channels: int) -> tuple[Tensor, Tensor, str]:
    """Mean, deviation, and what they are."""
    config: Any = getattr(model, "pretrained_cfg", None)
    if isinstance(config, dict) and len(config.get("mean", ())) == channels:
        return torch.tensor(config["mean"]), torch.tensor(config["std"]), "as timm's configuration of the model says"
    if type(model).__module__.startswith("ultralytics.") or channels == 1:
        return torch.zeros(channels), torch.ones(channels), "values from 0 to 1"
    return torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1]), "with the mean and the deviation of ImageNet"
