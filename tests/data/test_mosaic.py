"""Pictures of glyphs: what tells classes apart and what does not, what is in the shards, and that bytes repeat."""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from mosaic import CLASSES, build_mosaics, draw, glyphs
from shards import TEST_IMAGES

from flipscale.data.formats import open_data, open_held_out
from flipscale.data.pairs import Form
from flipscale.settings.declarations import ShardSet, WebDataset


def codes(captions: list[str]) -> npt.NDArray[np.int64]:
    """The code of each character, eight a caption."""
    return np.array([[ord(letter) for letter in caption[:8]] for caption in captions], np.int64)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosaic") / "built"
    assert build_mosaics(folder, 12, pairs=300).train == 300
    return folder


def moments(degree: int) -> npt.NDArray[np.float64]:
    """The mean of each product of this number of pixels of a glyph, by class; black is -1 and white 1."""
    signs = 2.0 * glyphs() - 1
    chosen = list(itertools.combinations(range(16), degree))
    return np.array([[of_class[:, pixels].prod(axis=1).mean() for pixels in chosen] for of_class in signs])


# The code


def test_glyphs_are_the_nordstrom_robinson_code() -> None:
    words = glyphs().reshape(-1, 16)
    distances = (words[:, None] != words).sum(axis=2)[np.triu_indices(256, 1)]
    assert np.bincount(distances).tolist() == [
        0,
        0,
        0,
        0,
        0,
        0,
        112 * 128,
        0,
        30 * 128,
        0,
        112 * 128,
        0,
        0,
        0,
        0,
        0,
        128,
    ]


@pytest.mark.parametrize("kind", range(8))
def test_each_class_is_a_coset_of_32_words(kind: int) -> None:
    words = {tuple(word) for word in glyphs()[kind]}
    first = glyphs()[kind][0]
    linear = {tuple(word ^ first) for word in glyphs()[kind]}
    assert len(words) == 32
    assert linear == {tuple(word) for word in glyphs()[0]}
    assert all(tuple(np.array(a) ^ np.array(b)) in linear for a in linear for b in linear)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_no_product_of_up_to_three_pixels_differs_between_classes(degree: int) -> None:
    assert (moments(degree) == 0).all()


def test_any_two_classes_differ_in_products_of_four_pixels() -> None:
    found = moments(4)
    assert set(np.unique(found)) == {-1.0, 0.0, 1.0}
    assert all((found[a] != found[b]).any() for a, b in itertools.combinations(range(8), 2))


# The pictures


def test_each_cell_of_a_picture_is_a_glyph_of_its_class_drawn_anew() -> None:
    pictures = draw("train", range(40), np.arange(40) % 8, 56, speckles=0)
    assert set(np.unique(pictures)) == {0, 255}
    cells = (pictures // 255).reshape(40, 14, 4, 14, 4).transpose(0, 1, 3, 2, 4).reshape(40, 196, 16)
    for number, of_picture in enumerate(cells):
        kinds = {tuple(word): i for i, word in enumerate(glyphs()[number % 8])}
        drawn = [kinds[tuple(cell)] for cell in of_picture]
        assert len(set(drawn)) > 25
    first, other = draw("train", range(1), np.array([3]), 56), draw("test", range(1), np.array([3]), 56)
    assert (first != other).mean() > 0.4


def test_captions_are_the_classes_of_the_pictures(mosaic: Path, tmp_path: Path) -> None:
    data = open_data(
        WebDataset(str(mosaic / "train-{00000..00000}.tar"), name=None, decode=None, sizes=None),
        Form(12, 8, codes, tmp_path),
        data_size=None,
        samples=300,
    )
    images, tokens = data.batch(np.arange(300))
    kinds = np.array([CLASSES.index("".join(map(chr, row))) for row in tokens])
    assert np.bincount(kinds).min() > 20
    assert (images == draw("train", range(300), kinds, 12)[:, None]).all()


def test_test_images_are_spread_evenly_over_the_classes(mosaic: Path, tmp_path: Path) -> None:
    assert (mosaic / "classes.txt").read_text().splitlines() == CLASSES
    shards = ShardSet(
        str(mosaic / "test-{00000..00000}.tar"), name=None, classes=str(mosaic / "classes.txt"), templates=None
    )
    found = open_held_out(shards, Form(12, 8, codes, tmp_path), images=None, templates=None, trained_on=False)
    assert found is not None
    assert found.labelled is not None
    assert np.bincount(found.labelled[1]).tolist() == [TEST_IMAGES // 8] * 8


def test_the_same_call_gives_the_same_bytes(mosaic: Path, tmp_path: Path) -> None:
    build_mosaics(tmp_path / "again", 12, pairs=300)
    names = sorted(path.name for path in mosaic.iterdir())
    assert names == ["classes.txt", "test-00000.tar", "train-00000.tar"]
    for name in names:
        assert (mosaic / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
