"""Handwritten digits as IDX files: what is in them, how studies read them, and that bytes repeat."""

from pathlib import Path

import numpy as np
import pytest
from digits import build_digits
from sklearn.datasets import load_digits

from flipscale.data import idx
from flipscale.errors import DataError
from tests.data.scripts import run_script

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "built"
    done = run_script("digits.py", folder)
    assert (done.returncode, done.stdout) == (0, f"wrote 597 training and 1,200 test images to {folder}\n")
    return folder


def test_no_picture_is_lost_or_in_both_parts(digits: Path) -> None:
    parts = [
        idx.labelled(str(digits / f"{part}-images.gz"), str(digits / f"{part}-labels.gz")) for part in ("train", "test")
    ]
    assert [images.shape for images, _ in parts] == [(597, 8, 8), (1200, 8, 8)]
    found = load_digits()
    assert (np.concatenate([labels for _, labels in parts]) == found.target).all()
    assert (np.abs(np.concatenate([images for images, _ in parts]) / 255 - found.images / 16) < 0.002).all()


def test_every_class_can_be_learnt_and_scored(digits: Path) -> None:
    for part, least in (("train", 55), ("test", 115)):
        labels = idx.labelled(str(digits / f"{part}-images.gz"), str(digits / f"{part}-labels.gz"))[1]
        assert np.bincount(labels, minlength=10).min() >= least


def test_pictures_come_at_the_size_of_the_run(digits: Path) -> None:
    labelled = idx.read(str(digits / "test-images.gz"), str(digits / "test-labels.gz"), CLASSES, 100, 28)
    assert labelled.images.shape == (100, 3, 28, 28)
    assert labelled.images.max() > 200
    assert np.bincount(labelled.labels).tolist() == [10] * 10


def test_the_same_call_gives_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    build_digits(tmp_path / "again")
    names = sorted(path.name for path in digits.iterdir())
    assert names == ["test-images.gz", "test-labels.gz", "train-images.gz", "train-labels.gz"]
    for name in names:
        assert (digits / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="exists already"):
        build_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
