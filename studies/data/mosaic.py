"""Pictures of small glyphs that differ only in products of four pixels, as tar shards: made for fine patches.

A picture is a mosaic of glyphs of 4 x 4 black and white pixels. A glyph is a word of the Nordstrom-Robinson code: 16
bits, 256 words, any two of which differ in at least 6 (Nordstrom and Robinson, Information and Control 11, 1967). The
code is a union of 8 cosets of the Reed-Muller code RM(1,4), and these are the classes: each cell of a picture holds one
of the 32 words of its class, drawn apart from all other cells. Such a coset is an orthogonal array of strength 3: in
each class any three pixels of a cell show all 8 patterns equally often. So no mean and no product of two or three
pixels tells classes apart; products of four do. A patch of 4 px is one cell, and a patch of 8 px mixes four. A
twentieth of the pixels is inverted at random: without that, patches of 4 px were learnt within a hundred steps.

Run it as `python studies/data/mosaic.py DIR`.
"""

import argparse
import io
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from shards import TEST_IMAGES, TRAINING_PAIRS, Built, Samples, end_on_error, write_set

from flipscale import randomness
from flipscale.errors import DataError

CLASSES = [f"mosaic {letter}" for letter in "ABCDEFGH"]
"""Captions of the classes."""

CELL = 4
"""Side of a glyph in px."""

SPECKLES = 0.05
"""Share of pixels that are inverted, black to white or white to black, each independently of the others."""

_FORMS = (0, 12, 22, 27, 39, 41, 53, 58)
"""Quadratic forms of 4 bits, one for each class: bit k is the coefficient of the k-th of the products of two, in the
order of itertools.combinations. The sum of any two is bent (a Kerdock set), so words of two classes are 6 apart."""


def glyphs() -> npt.NDArray[np.uint8]:
    """All glyphs: [class, word, 16 pixels row by row], 0 or 1. Pixel n stands for the 4 bits of n."""
    points = np.array(list(itertools.product((0, 1), repeat=4)))
    products = np.array([a * b for a, b in itertools.combinations(points.T, 2)])
    forms = np.array([[form >> k & 1 for k in range(len(products))] for form in _FORMS]) @ products
    affine = np.array(list(itertools.product((0, 1), repeat=5))) @ np.vstack([points.T, np.ones(len(points), int)])
    words: npt.NDArray[np.int64] = (forms[:, None] + affine) % 2
    return words.astype(np.uint8)


def build_mosaics(out: Path, size: int, pairs: int = TRAINING_PAIRS) -> Built:
    """Build the data set in the folder `out`, which appears once it is complete: training shards, a test shard with
    captions and classes, and classes.txt.

    size: width and height of the pictures in px. pairs: how many to train on. Raises DataError if the folder exists or
    the size is not a multiple of a glyph's.
    """
    if size < CELL or size % CELL:
        raise DataError(f"size is {size}; a mosaic takes a multiple of {CELL} px.")

    def training(shard: range) -> Samples:
        drawn = randomness.bits(randomness.key("mosaic", "classes"), np.array(shard, np.int64), 1)[:, 0]
        return _samples("train", shard, (drawn % len(CLASSES)).astype(np.int64), size)

    test = range(TEST_IMAGES)
    classes = np.arange(TEST_IMAGES) % len(CLASSES)
    return write_set(out, pairs, training, _samples("test", test, classes, size, labelled=True), CLASSES)


def draw(
    part: str, pictures: range, classes: npt.NDArray[np.int64], size: int, speckles: float = SPECKLES
) -> npt.NDArray[np.uint8]:
    """Pictures of a part ("train" or "test") by their numbers, each of its class: [picture, size, size], 0 or 255."""
    side, numbers = size // CELL, np.array(pictures, np.int64)
    words = randomness.bits(randomness.key("mosaic", part), numbers, side * side) >> np.uint64(59)
    cells = glyphs()[classes[:, None], words.astype(np.int64)].reshape(-1, side, side, CELL, CELL)
    drawn = cells.transpose(0, 1, 3, 2, 4).reshape(-1, size, size)
    turned = randomness.uniform(randomness.key("mosaic", part, "speckles"), numbers, size * size) < speckles
    return (drawn ^ turned.reshape(drawn.shape)) * np.uint8(255)


def _samples(
    part: str, pictures: range, classes: npt.NDArray[np.int64], size: int, *, labelled: bool = False
) -> Samples:
    for number, kind, picture in zip(pictures, classes, draw(part, pictures, classes, size), strict=True):
        png = io.BytesIO()
        Image.fromarray(picture).save(png, "PNG")
        files = {"png": png.getvalue(), "txt": CLASSES[kind].encode()}
        yield f"{number:09}", files | ({"cls": str(kind).encode()} if labelled else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the files go")
    parser.add_argument("--size", type=int, default=56, help="side of a picture in pixels (56)")
    args = parser.parse_args()
    print(f"wrote {build_mosaics(args.folder, args.size)}")


if __name__ == "__main__":
    with end_on_error():
        main()
