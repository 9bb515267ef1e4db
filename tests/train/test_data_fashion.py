import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from flipscale.data import fashion
from flipscale.data.formats import open_data, open_held_out
from flipscale.data.pairs import Data, Form, HeldOutItems
from flipscale.errors import DataError
from flipscale.settings.declarations import Fashion
from tests.parts import need_fashion


class Words:
    """Tokens that stand for whole captions, so that a test can read them."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def __call__(self, texts: list[str]) -> npt.NDArray[np.int64]:
        self.known += texts
        return np.arange(len(self.known) - len(texts), len(self.known))[:, None].repeat(16, axis=1)

    def read(self, tokens: npt.NDArray[np.int64]) -> list[str]:
        return [self.known[token] for token in tokens[:, 0]]


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """200 training and 40 test images, each of one grey that is its number, with the classes in turn."""
    for split, count in (("train", 200), ("t10k", 40)):
        images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(images[:, 0, 0] % 10)))
    return tmp_path


def training(
    folder: Path | None, data_size: int | None = None, image_size: int = 28, words: Words | None = None
) -> Data:
    return open_data(
        Fashion(folder and str(folder)),
        Form(image_size, 16, words or Words()),
        data_size=data_size,
        samples=1000,
    )


def held_out(folder: Path | None, images: int, words: Words | None = None) -> HeldOutItems:
    found = open_held_out(
        Fashion(folder and str(folder)),
        Form(28, 16, words or Words()),
        images=images,
        templates=None,
    )
    assert found is not None
    return found


def test_captions_name_the_class_of_their_image(folder: Path) -> None:
    words = Words()
    images, tokens = training(folder, words=words).batch(np.arange(200))
    for number, caption in zip(images[:, 0, 0, 0], words.read(tokens), strict=True):
        assert fashion.FASHION_CLASSES[number % 10] in caption
    assert len(set(words.read(tokens))) > 40


def test_all_images_are_there_once_when_no_data_size_is_set(folder: Path) -> None:
    data = training(folder)
    assert data.size == 200
    assert sorted(data.batch(np.arange(200))[0][:, 0, 0, 0]) == list(range(200))


def test_a_subset_has_exactly_data_size_images_and_even_classes(folder: Path) -> None:
    data = training(folder, data_size=50)
    numbers = data.batch(np.arange(50))[0][:, 0, 0, 0]
    assert data.size == len(set(numbers)) == 50
    assert np.bincount(numbers % 10).tolist() == [5] * 10
    assert sorted(numbers) != list(range(50))


def test_a_larger_subset_holds_the_smaller(folder: Path) -> None:
    small, large = training(folder, data_size=33), training(folder, data_size=60)
    np.testing.assert_array_equal(small.batch(np.arange(33))[0], large.batch(np.arange(33))[0])
    np.testing.assert_array_equal(small.batch(np.arange(33))[1], large.batch(np.arange(33))[1])


def test_images_are_resized_and_have_three_equal_channels(folder: Path) -> None:
    images, _ = training(folder, image_size=32).batch(np.array([3, 4]))
    assert (images.shape, images.dtype) == ((2, 3, 32, 32), np.uint8)
    np.testing.assert_array_equal(images[:, 0], images[:, 2])


def test_the_test_split_is_held_out(folder: Path) -> None:
    words = Words()
    found = held_out(folder, images=30, words=words)
    assert found.labelled is not None
    assert found.pairs is not None
    assert found.prompts is not None
    assert found.labelled[0][:, 0, 0, 0].tolist() == list(range(30))
    assert found.labelled[1].tolist() == [number % 10 for number in range(30)]
    assert found.prompts.shape == (10, 8, 16)
    assert words.read(found.prompts[9])[0] == "a photo of a ankle boot"
    assert not found.retrieval


def test_debians_files_are_read_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLIPSCALE_FASHION", raising=False)
    need_fashion()
    data, found = training(None), held_out(None, images=2000)
    assert data.size == 60_000
    assert found.labelled is not None
    # The first ten labels of the test split, as Zalando publishes it.
    assert found.labelled[1][:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]


def test_files_may_be_unpacked(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert training(folder).size == 200


def test_a_missing_folder_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such folder.*set the option folder of fashion in"):
        training(tmp_path / "nowhere")


def test_the_environment_names_the_folder_of_a_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIPSCALE_FASHION", str(folder))
    assert training(None).size == 200
