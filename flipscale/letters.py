"""Pictures of two letters with captions, as tar shards: data whose details are small beside the picture.

A letter is an eighth of the picture high and lies anywhere in its half, so a model has to find it and make out its
parts, which is hard with patches as large as a letter. There are 8 letters, A to H, and so 64 words of two; the caption
of a picture is its word, "B F". Colours vary and carry no information.
"""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from flipscale import randomness
from flipscale.errors import DataError
from flipscale.written_shards import TEST_IMAGES, TRAINING_PAIRS, Built, Samples, write_set

LETTERS = "ABCDEFGH"
WORDS = [" ".join(word) for word in itertools.product(LETTERS, repeat=2)]
"""All words, as captions have them: the classes."""

LEAST_SIZE = 28
"""Pixels: at fewer, letters are not legible."""

_FONT = 1 / 6
"""Size of the font as a share of the picture's height. A capital letter is 7 tenths of that high."""
_SPREAD = 0.1
"""How far a letter may be from the middle of its half, to the sides; up and down it may be twice as far."""
_NUMBERS = 15
"""Random numbers that a picture takes."""


def build_letters(out: Path, size: int, pairs: int = TRAINING_PAIRS) -> Built:
    """Build the data set in the folder `out`, which appears once it is complete: training shards, a test shard with
    captions and classes, and classes.txt.

    size: width and height of the pictures in px. pairs: how many to train on. Raises DataError if the folder exists or
    the size is too small.
    """
    if size < LEAST_SIZE:
        raise DataError(f"size is {size}; letters need {LEAST_SIZE} px or more.")

    def training(shard: range) -> Samples:
        drawn = _numbers("train", shard)
        return _samples(shard, (drawn[:, -1] * len(WORDS)).astype(np.int64), drawn, size)

    test = range(TEST_IMAGES)
    words = np.arange(TEST_IMAGES) % len(WORDS)
    return write_set(out, pairs, training, _samples(test, words, _numbers("test", test), size, labelled=True), WORDS)


def _numbers(part: str, pictures: range) -> npt.NDArray[np.float32]:
    """What each picture is drawn from, and a number for its word."""
    return randomness.uniform(randomness.key("letters", part), np.array(pictures, np.int64), _NUMBERS + 1)


def _samples(
    pictures: range, words: npt.NDArray[np.int64], drawn: npt.NDArray[np.float32], size: int, *, labelled: bool = False
) -> Samples:
    for number, word, uniform in zip(pictures, words, drawn, strict=True):
        png = io.BytesIO()
        draw(WORDS[word], uniform, size).save(png, "PNG")
        files = {"png": png.getvalue(), "txt": WORDS[word].encode()}
        yield f"{number:09}", files | ({"cls": str(word).encode()} if labelled else {})


def draw(word: str, uniform: npt.NDArray[np.float32], size: int) -> Image.Image:
    """The picture of a word by these numbers in [0, 1)."""
    numbers = iter(uniform.tolist())
    picture = Image.new("RGB", (size, size), _colour(numbers, 20, 90))
    pen = ImageDraw.Draw(picture)
    for letter, middle in zip(word.split(), (0.25, 0.75), strict=True):
        x = middle + _SPREAD * (2 * next(numbers) - 1)
        y = 0.5 + 2 * _SPREAD * (2 * next(numbers) - 1)
        font = ImageFont.load_default(size * _FONT * (0.94 + 0.12 * next(numbers)))
        ink = _colour(numbers, 150, 255)
        bold = max(1, size // 112)
        pen.text((size * x, size * y), letter, font=font, fill=ink, anchor="mm", stroke_width=bold, stroke_fill=ink)
    return picture


def _colour(numbers: Iterator[float], darkest: int, brightest: int) -> tuple[int, int, int]:
    red, green, blue = (darkest + int((brightest - darkest + 1) * next(numbers)) for _ in range(3))
    return red, green, blue
