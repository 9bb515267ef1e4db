"""RandAugment (arXiv 1909.13719) as MAE and FLIP fine-tune with it: two of 15 operations an image, at magnitude 9.

The operations and what a magnitude means are timm's "rand-m9-mstd0.5-inc1" (timm.data.auto_augment), which MAE's code
asks for: each operation is done with a chance of a half, its magnitude deviates by 0.5, and a larger one is stronger
for all of them. The random numbers differ: here they follow from the run's seed and the position of the image in
the run, as those of `views`, so a resumed run and any split of a batch see the same.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from flipscale import randomness
from flipscale.data.pairs import Images, Integers

DRAWN = 2
"""Operations drawn for an image, with replacement."""

CHANCE = 0.5
"""An operation that was drawn is done with this chance."""

DEVIATION = 0.5
"""Standard deviation of the magnitude."""

MOST_MAGNITUDE = 10.0
"""The largest magnitude."""

_DRAWS_OF_OPERATION = 5
"""Random numbers of an operation: which, whether, two for its magnitude, its direction."""

Operation = Callable[[Image.Image, float, float, tuple[int, int, int]], Image.Image]
"""Of an image, the magnitude as a share of the largest, the direction 1 or -1, and the colour to fill with."""


def augment(images: Images, magnitude: float, seed: int, positions: npt.NDArray[np.int64], fill: Integers) -> Images:
    """The images [B, 3, S, S] with operations of about `magnitude`, from 0 to 10.

    positions: where in the run each image is, [B].
    fill: the colour, [3] from 0 to 255, of what was outside of the image.
    """
    chances = randomness.uniform(randomness.key("augment", seed), positions, DRAWN * _DRAWS_OF_OPERATION)
    names, colour = tuple(OPERATIONS), (int(fill[0]), int(fill[1]), int(fill[2]))
    augmented = np.empty_like(images)
    for row, drawn in enumerate(chances.reshape(len(images), DRAWN, _DRAWS_OF_OPERATION).tolist()):
        image = Image.fromarray(np.ascontiguousarray(images[row].transpose(1, 2, 0)))
        for which, whether, first, second, direction in drawn:
            if whether < CHANCE:
                # Box and Muller's normal number from two uniform ones; 1 - first is never 0.
                normal = math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)
                level = min(MOST_MAGNITUDE, max(0.0, magnitude + DEVIATION * normal)) / MOST_MAGNITUDE
                operation = OPERATIONS[names[int(which * len(names))]]
                image = operation(image, level, 1.0 if direction < 0.5 else -1.0, colour)
        augmented[row] = np.asarray(image).transpose(2, 0, 1)
    return augmented


def _affine(
    matrix: Callable[[float, tuple[int, int]], tuple[float, ...]],
    image: Image.Image,
    level: float,
    direction: float,
    fill: tuple[int, int, int],
) -> Image.Image:
    data = matrix(level * direction, image.size)
    return image.transform(image.size, Image.Transform.AFFINE, data, resample=Image.Resampling.BICUBIC, fillcolor=fill)


def _rotate(image: Image.Image, level: float, direction: float, fill: tuple[int, int, int]) -> Image.Image:
    return image.rotate(30 * level * direction, resample=Image.Resampling.BICUBIC, fillcolor=fill)


def _enhance(
    kind: Callable[[Image.Image], ImageEnhance._Enhance],
    image: Image.Image,
    level: float,
    direction: float,
    fill: tuple[int, int, int],
) -> Image.Image:
    return kind(image).enhance(max(0.1, 1 + 0.9 * level * direction))


def _solarize_add(image: Image.Image, level: float, direction: float, fill: tuple[int, int, int]) -> Image.Image:
    added = min(128, int(110 * level))
    return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)


OPERATIONS: Mapping[str, Operation] = {
    "auto_contrast": lambda image, *_: ImageOps.autocontrast(image),
    "equalize": lambda image, *_: ImageOps.equalize(image),
    "invert": lambda image, *_: ImageOps.invert(image),
    "rotate": _rotate,
    # At the largest magnitude timm keeps no bits: a black image, which newer Pillows refuse to make.
    "posterize": lambda image, level, *_: ImageOps.posterize(image, max(1, 4 - int(4 * level))),
    "solarize": lambda image, level, *_: ImageOps.solarize(image, 256 - min(256, int(256 * level))),
    "solarize_add": _solarize_add,
    "color": partial(_enhance, ImageEnhance.Color),
    "contrast": partial(_enhance, ImageEnhance.Contrast),
    "brightness": partial(_enhance, ImageEnhance.Brightness),
    "sharpness": partial(_enhance, ImageEnhance.Sharpness),
    "shear_x": partial(_affine, lambda amount, size: (1, 0.3 * amount, 0, 0, 1, 0)),
    "shear_y": partial(_affine, lambda amount, size: (1, 0, 0, 0.3 * amount, 1, 0)),
    "translate_x": partial(_affine, lambda amount, size: (1, 0, 0.45 * amount * size[0], 0, 1, 0)),
    "translate_y": partial(_affine, lambda amount, size: (1, 0, 0, 0, 1, 0.45 * amount * size[1])),
}
"""Each operation by its name, in timm's order."""
