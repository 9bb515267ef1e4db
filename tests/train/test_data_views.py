from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torchvision.transforms.functional as reference
from PIL import Image

from flipscale.data.formats import open_data
from flipscale.data.pairs import Form
from flipscale.data.views import Views, view, view_stored, views
from flipscale.settings.declarations import Shapes
from tests.asked import settings_of


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def some(count: int, **changes: Any) -> Views:
    found = views(settings_of(**{"crop": 0.5, "flip": True, **changes}), 0, count)
    assert found is not None
    return found


def test_without_crop_and_flip_there_are_no_views() -> None:
    assert views(settings_of(seed=0, crop=None, flip=False), 0, 8) is None


def test_a_view_follows_from_seed_and_position_alone() -> None:
    whole, part = some(100), views(settings_of(seed=0, crop=0.5, flip=True), 60, 40)
    assert part is not None
    assert [whole.box(60 + row, 90, 70) for row in range(40)] == [part.box(row, 90, 70) for row in range(40)]
    assert [whole.flipped(60 + row) for row in range(40)] == [part.flipped(row) for row in range(40)]
    assert whole.box(0, 90, 70) != some(100, seed=1).box(0, 90, 70)


@pytest.mark.parametrize("crop", [0.08, 0.5, 0.9])
def test_crops_are_as_large_and_as_wide_as_torchvisions(crop: float) -> None:
    """Area uniform, the logarithm of the ratio uniform; what does not fit is drawn anew, which favours small ones."""
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    picture = torch.empty(3, 300, 400)
    theirs = np.array([RandomResizedCrop.get_params(picture, [crop, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)])
    random = some(2000, crop=crop)
    ours = np.array([random.box(row, 400, 300) for row in range(2000)])
    left, top, right, bottom = ours.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 400).all()
    assert (bottom <= 300).all()
    width, height = right - left, bottom - top
    assert (width * height).min() >= crop * 400 * 300 * 0.98
    for mine, other in ((top, theirs[:, 0]), (left, theirs[:, 1]), (height, theirs[:, 2]), (width, theirs[:, 3])):
        assert mine.mean() == pytest.approx(other.mean(), abs=0.1 * other.std())
        assert mine.std() == pytest.approx(other.std(), rel=0.1)


@pytest.mark.parametrize(
    ("size", "box"),
    [((100, 1000), (0, 433, 100, 566)), ((1000, 100), (433, 0, 566, 100)), ((100, 100), (0, 0, 100, 100))],
)
def test_an_image_that_no_crop_fits_into_shows_its_middle(size: tuple[int, int], box: tuple[int, ...]) -> None:
    assert some(1, crop=1.0).box(0, *size) == box


def test_half_of_the_views_are_mirrored() -> None:
    random, none = some(4000), some(100, flip=False)
    assert np.mean([random.flipped(row) for row in range(4000)]) == pytest.approx(0.5, abs=0.03)
    assert not any(none.flipped(row) for row in range(100))


def test_a_view_is_torchvisions_crop_but_for_its_edge() -> None:
    image, random = noise(90, 70), some(8, flip=False)
    for row in range(8):
        left, top, right, bottom = random.box(row, 90, 70)
        theirs = reference.resized_crop(
            image, top, left, bottom - top, right - left, [32, 32], Image.Resampling.BICUBIC
        )
        ours = view(image, 32, random, row)
        inner = (slice(3, -3), slice(3, -3))
        np.testing.assert_array_equal(np.asarray(ours)[inner], np.asarray(theirs)[inner])


def test_a_mirrored_view_is_the_view_mirrored() -> None:
    image, row = noise(40, 40), next(row for row in range(20) if some(20).flipped(row))
    plain = np.asarray(view(image, 16, some(20, flip=False), row))
    np.testing.assert_array_equal(np.asarray(view(image, 16, some(20), row)), plain[:, ::-1])


def test_images_in_arrays_are_seen_as_images_in_files_are() -> None:
    image = noise(28, 28)
    stored = np.asarray(image).transpose(2, 0, 1)[None].repeat(6, axis=0)
    for image_size in (28, 20):
        for changes in ({}, {"crop": None}, {"flip": False}):
            random = some(6, **changes)
            expected = [np.asarray(view(image, image_size, random, row)).transpose(2, 0, 1) for row in range(6)]
            np.testing.assert_array_equal(view_stored(stored, image_size, random), np.stack(expected))


def test_grey_images_stay_grey() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)
    three = view_stored(np.repeat(grey, 3, axis=1), 24, some(4))
    np.testing.assert_array_equal(np.repeat(view_stored(grey, 24, some(4)), 3, axis=1), three)


def test_drawn_shapes_are_cropped_and_mirrored() -> None:
    def tokenize(texts: list[str]) -> npt.NDArray[np.int64]:
        return np.array([[len(text)] * 8 for text in texts], np.int64)

    data = open_data(
        Shapes(0.0, seed=0),
        Form(28, 8, tokenize),
        data_size=64,
        samples=64,
    )
    whole, tokens = data.batch(np.arange(8), None)
    seen, same = data.batch(np.arange(8), some(8, crop=0.3))
    np.testing.assert_array_equal(seen, view_stored(whole, 28, some(8, crop=0.3)))
    np.testing.assert_array_equal(tokens, same)
    assert (seen != whole).any(axis=(1, 2, 3)).all()
