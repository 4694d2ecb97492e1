"""Where layers look far in a picture, with switches of which it is known."""

import io

import numpy as np
import pytest
import torch
from torch import nn

import saconv_surgeon as surgeon
from saconv_surgeon.comparing.switch_maps import switch_maps
from saconv_surgeon.errors import UsageError
from saconv_surgeon.models.loading.image_file import picture_as_input
from saconv_surgeon.models.running.inputs import Inputs
from saconv_surgeon.records import from_dict, to_dict
from saconv_surgeon.report.commands.diff import diff_report
from saconv_surgeon.report.formats import FORMATS, png
from saconv_surgeon.report.pictures import Picture
from sample_models import tiny_resnet

PIL = pytest.importorskip("PIL.Image", reason="pillow is not installed")
SIDE = 32


def half_bright(path, size=(64, 64), mode="RGB"):
    values = np.zeros((*size, 3), np.uint8)
    values[:, size[1] // 2 :] = 255
    PIL.fromarray(values).convert(mode).save(path)
    return path


def looks_far_where_bright():
    """S = 1 − the mean of the input: 1 − S is the brightness itself, away from the edge that pooling blurs."""
    layer = surgeon.SAConv2d(1, 2, 3, padding=1)
    nn.init.constant_(layer.switch.weight, -1.0)
    return nn.Sequential(layer).eval()


def test_maps_by_hand(tmp_path):
    x = torch.zeros(1, 1, SIDE, SIDE)
    x[..., SIDE // 2 :] = 1.0
    (found,) = switch_maps(looks_far_where_bright(), Inputs.of(x))
    assert (found.path, found.size) == ("0", (SIDE, SIDE))
    assert found.values[SIDE // 2][4] == 0.0
    assert found.values[SIDE // 2][SIDE - 5] == 1.0
    assert found.mean == pytest.approx(0.5, abs=0.02)
    assert found.far == pytest.approx(0.5, abs=0.04)


def test_a_conversion_at_rest_looks_nowhere_far():
    model, x = tiny_resnet.build(depth=1, width=8), tiny_resnet.example_inputs()
    found = switch_maps(surgeon.convert(model, x).model, Inputs.of(x))
    assert len(found) == 7
    assert all((each.mean, each.far) == (0.0, 0.0) for each in found)
    assert switch_maps(model, Inputs.of(x)) == ()


def test_a_picture_becomes_an_input(tmp_path):
    path = half_bright(tmp_path / "half.png", (64, 128))
    found = picture_as_input(path, nn.Conv2d(3, 4, 3), Inputs.of(torch.zeros(2, 3, SIDE, SIDE)))
    (image,) = found.inputs.tensors
    assert image.shape == (1, 3, SIDE, SIDE)
    assert "ImageNet" in found.normalised
    assert image[0, 0, 0, -1].item() == pytest.approx((1 - 0.485) / 0.229, abs=1e-5)
    assert image[0, 0, 0, 0].item() == pytest.approx(-0.485 / 0.229, abs=1e-5)
    assert (found.grey[0, 0], found.grey[0, -1]) == (0.0, 1.0)
    grey = picture_as_input(path, nn.Conv2d(1, 4, 3), Inputs.of(torch.zeros(1, 1, SIDE, SIDE)))
    assert grey.inputs.tensors[0].max() == 1.0
    timm = nn.Conv2d(3, 4, 3)
    timm.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    normed = picture_as_input(path, timm, Inputs.of(torch.zeros(1, 3, SIDE, SIDE)))
    assert normed.inputs.tensors[0].unique().min() == -1.0


def test_values_of_sixteen_bits_and_what_can_be_seen_through(tmp_path):
    inputs = Inputs.of(torch.zeros(1, 1, 16, 16))
    ramp = np.linspace(0, 65535, 16, dtype=np.uint16)[None].repeat(16, axis=0)
    PIL.fromarray(ramp).save(tmp_path / "deep.png")
    grey = picture_as_input(tmp_path / "deep.png", nn.Conv2d(1, 1, 3), inputs).grey
    assert (grey[0, 0], grey[0, -1]) == (0.0, 1.0)
    assert grey.mean().item() == pytest.approx(0.5, abs=0.02)
    PIL.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert picture_as_input(tmp_path / "clear.png", nn.Conv2d(1, 1, 3), inputs).grey.min() == 1.0
    PIL.fromarray(ramp.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UsageError, match="values of 32 bits"):
        picture_as_input(tmp_path / "float.tiff", nn.Conv2d(1, 1, 3), inputs)


def test_what_is_no_picture_is_said(tmp_path):
    inputs = Inputs.of(torch.zeros(1, 3, SIDE, SIDE))
    text = tmp_path / "cat.jpg"
    text.write_text("meow")
    half = tmp_path / "half.jpg"
    buffer = io.BytesIO()
    PIL.new("RGB", (64, 64)).save(buffer, "JPEG")
    half.write_bytes(buffer.getvalue()[:200])
    for path in (text, half, tmp_path / "none.jpg", tmp_path):
        with pytest.raises(UsageError, match="is no picture that can be read"):
            picture_as_input(path, nn.Conv2d(3, 4, 3), inputs)
    with pytest.raises(UsageError, match="takes no batch of images"):
        picture_as_input(text, nn.Linear(3, 4), Inputs.of(torch.zeros(1, 3)))


def test_diff_shows_it_in_every_format(tmp_path):
    model, x = tiny_resnet.build(depth=1, width=8), tiny_resnet.example_inputs()
    path = half_bright(tmp_path / "<cat>.png")
    record = surgeon.diff(model, surgeon.convert(model, x).model, x, timing=None, image=path)
    assert record.switches_a == ()
    assert len(record.switches_b) == 7
    assert from_dict(type(record), to_dict(record)) == record
    html = FORMATS[".html"].render(diff_report(record, every_row=False))
    assert html.count("data:image/png") == 7
    assert "&lt;cat&gt;.png" in html
    assert "looks far" in FORMATS[".svg"].render(diff_report(record, every_row=False)).replace("&#160;", " ")
    assert surgeon.diff(model, model, x, timing=None).image is None


def test_pictures_are_pngs_that_others_read():
    uri = png.data_uri(Picture("a", "b", ((0.0, 1.0), (-3.0, 7.0)), grey=((0.0, 0.0), (1.0, 1.0))))
    import base64

    image = PIL.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (image.size, image.mode) == ((2, 2), "P")
    image = image.convert("RGB")
    dark, far, light, clipped = (image.getpixel(at) for at in ((0, 0), (1, 0), (0, 1), (1, 1)))
    assert dark == (0, 0, 0)
    assert far == tuple(round(0.85 * colour) for colour in png.FAR)
    assert light == (255, 255, 255)
    assert clipped == tuple(round(0.15 * 255 + 0.85 * colour) for colour in png.FAR)
