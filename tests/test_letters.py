"""Pictures of two letters, as shards: what is in them, and that the same call gives the same bytes."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from flipscale import randomness
from flipscale.cli import main
from flipscale.errors import DataError
from flipscale.letters import WORDS, build_letters, draw
from flipscale.settings import ShardSet, WebDataset
from flipscale.train.data import Form, open_data, open_held_out
from flipscale.written_shards import TEST_IMAGES


def codes(captions: list[str]) -> npt.NDArray[np.int64]:
    """The code of each character, eight a caption."""
    return np.array([[ord(letter) for letter in caption.ljust(8)] for caption in captions], np.int64)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters") / "built"
    assert build_letters(folder, 28, pairs=300).train == 300
    return folder


def test_every_word_is_a_class_with_as_many_test_images(letters: Path, tmp_path: Path) -> None:
    assert (letters / "classes.txt").read_text().splitlines() == WORDS
    assert len(set(WORDS)) == 64
    shards = ShardSet(
        str(letters / "test-{00000..00000}.tar"), name=None, classes=str(letters / "classes.txt"), templates=None
    )
    found = open_held_out(shards, Form(28, 8, codes, tmp_path), images=None, templates=None, trained_on=False)
    assert found is not None
    assert found.labelled is not None
    assert np.bincount(found.labelled[1]).tolist() == [TEST_IMAGES // 64] * 64


def test_captions_say_what_is_drawn(letters: Path, tmp_path: Path) -> None:
    data = open_data(
        WebDataset(str(letters / "train-{00000..00000}.tar"), name=None, decode=None, sizes=None),
        Form(28, 8, codes, tmp_path),
        data_size=None,
        samples=300,
    )
    images, tokens = data.batch(np.arange(300))
    uniform = randomness.uniform(randomness.key("letters", "train"), np.arange(300), 16)
    captions = ["".join(map(chr, row)).strip() for row in tokens]
    assert len(set(captions)) > 50
    for image, caption, numbers in zip(images, captions, uniform, strict=True):
        assert (image == np.asarray(draw(caption, numbers, 28)).transpose(2, 0, 1)).all()


def test_letters_lie_within_the_picture_and_differ_from_its_ground() -> None:
    for extreme in (0.0, 0.999):
        picture = np.asarray(draw("G H", np.full(15, extreme, np.float32), 112)).astype(int)
        ink = (abs(picture - picture[0, 0]) > 40).any(axis=2)
        assert ink.sum() > 100
        assert not ink[[0, -1]].any()
        assert not ink[:, [0, -1]].any()


def test_the_same_call_gives_the_same_bytes(letters: Path, tmp_path: Path) -> None:
    build_letters(tmp_path / "again", 28, pairs=300)
    names = sorted(path.name for path in letters.iterdir())
    assert names == ["classes.txt", "test-00000.tar", "train-00000.tar"]
    for name in names:
        assert (letters / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_complaints_name_what_would_be_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "letters", str(tmp_path / "x"), "--size", "8"]) == 1
    assert "letters need 28 px or more" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    with pytest.raises(DataError, match="exists already"):
        build_letters(tmp_path / "there", 28)
