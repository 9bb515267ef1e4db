"""The further sets to score models on: what is in them, how studies read them, and that bytes repeat."""

from pathlib import Path

import numpy as np
import pytest
from further import SHIFTS, TO_LEARN_FROM, TO_TEST_ON, letters

from flipscale.data import fashion, idx
from flipscale.settings.declarations import Fashion
from tests.data.scripts import run_script
from tests.parts import need_fashion


@pytest.fixture(scope="module")
def further(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_fashion()
    folder = tmp_path_factory.mktemp("further") / "built"
    done = run_script("further.py", folder)
    assert (done.returncode, done.stdout) == (0, f"wrote 5,620 training and 17,100 test images to {folder}\n")
    return folder


def read(folder: Path, images: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    return idx.labelled(str(folder / f"{images}-images.gz"), str(folder / f"{labels}-labels.gz"))


def test_clothes_are_shifted_and_keep_their_labels(further: Path) -> None:
    clothes, labels = (part[:2000] for part in fashion.split(fashion.folder_of(Fashion()), "t10k"))
    for name in SHIFTS:
        shifted, of_shifted = read(further, name, "clothes")
        assert (of_shifted == labels).all()
        assert np.abs(shifted.astype(int) - clothes).mean() > 5
    assert (read(further, "negative", "clothes")[0] == 255 - clothes).all()
    grey = np.abs(clothes.astype(int) - 128) < 10  # Too far from black and white to be cut off there often.
    noise = read(further, "noise", "clothes")[0][grey].astype(int) - clothes[grey]
    assert 48 < noise.std() < 52


@pytest.mark.parametrize(
    ("part", "classes", "each"),
    [("mnist-train", 10, 250), ("mnist-test", 10, 250), ("letters-train", 26, 120), ("letters-test", 26, 100)],
)
def test_every_class_has_the_same_number_of_pictures(further: Path, part: str, classes: int, each: int) -> None:
    images, labels = read(further, part, part)
    assert images.shape[1:] == (28, 28)
    assert np.bincount(labels).tolist() == [each] * classes
    assert all(images[labels == label].mean() > 8 for label in range(classes))


def test_letters_of_the_two_parts_have_other_typefaces_and_come_out_the_same_again(further: Path) -> None:
    assert not {*TO_LEARN_FROM} & {*TO_TEST_ON}
    assert (letters(TO_TEST_ON)[0] == read(further, "letters-test", "letters-test")[0]).all()
