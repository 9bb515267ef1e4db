"""The part of an image that a model sees: the middle square, or in training a random crop and flip of it.

A random crop is torchvision's RandomResizedCrop, with which FLIP (arXiv 2212.00794, least area 0.5) and open_clip (0.9)
train: https://github.com/pytorch/vision/blob/v0.20.0/torchvision/transforms/transforms.py, `get_params`. Its random
numbers differ: here they follow from the run's seed and the position of the pair in the run, so any split of a
batch into processes or micro-batches, and a run that goes on from a checkpoint, shows the same. And Pillow's
`resize(box=...)` looks beyond the crop where its filter reaches over the edge, where torchvision cuts first: the
outermost pixels differ.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from flipscale import randomness
from flipscale.settings.declarations import Settings

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""

RATIO = (3 / 4, 4 / 3)
"""Smallest and largest ratio of a random crop's width to its height."""

_TRIES = 10
"""Tries to draw a crop that fits into the image, before the middle is taken."""


@dataclass(frozen=True)
class Views:
    """The random views of the rows of a batch."""

    seed: int
    positions: npt.NDArray[np.int64]
    """[B] where in the run each row is: step * batch_size + row of the global batch."""
    crop: float | None
    """Least share of the image's area in a crop; None is the middle square, whole."""
    flip: bool
    """Whether half the images, at random, are mirrored left to right."""

    def box(self, row: int, width: int, height: int) -> Box:
        """The part of an image of this size that row `row` shows."""
        if self.crop is None:
            return middle(width, height)
        ratios = np.log(RATIO)
        for area, ratio, left, top in self._chances[row, 1:].reshape(_TRIES, 4).tolist():
            pixels = width * height * (self.crop + area * (1 - self.crop))
            aspect = math.exp(ratios[0] + ratio * (ratios[1] - ratios[0]))
            w = round(math.sqrt(pixels * aspect))
            h = round(math.sqrt(pixels / aspect))
            if 0 < w <= width and 0 < h <= height:
                x = int(left * (width - w + 1))
                y = int(top * (height - h + 1))
                return x, y, x + w, y + h
        # The image is too long for any crop that was drawn: its middle, at the nearest ratio.
        w = min(width, round(height * RATIO[1]))
        h = min(height, round(width / RATIO[0]))
        x = (width - w) // 2
        y = (height - h) // 2
        return x, y, x + w, y + h

    def flipped(self, row: int) -> bool:
        """Whether row `row` is mirrored."""
        return self.flip and bool(self._chances[row, 0] < 0.5)

    @functools.cached_property
    def _chances(self) -> npt.NDArray[np.float32]:
        """Numbers in [0, 1): [B, 1 + 4 tries], the first for the flip, then area, ratio, left and top of each try."""
        return randomness.uniform(randomness.key("view", self.seed), self.positions, 1 + 4 * _TRIES)


def views(settings: Settings, first: int, count: int) -> Views | None:
    """The views of the run's positions first .. first + count - 1; None if its settings ask for no randomness.

    Row r of the global batch of a step is position step * batch_size + r.
    """
    if settings.crop is None and not settings.flip:
        return None
    positions = np.arange(first, first + count, dtype=np.int64)
    return Views(settings.seed, positions, settings.crop, settings.flip)


def middle(width: int, height: int) -> Box:
    """The middle square, as CLIP evaluates."""
    side = min(width, height)
    left = (width - side) // 2
    top = (height - side) // 2
    return left, top, left + side, top + side


MOST_PIXELS = 2**25
"""The most pixels of an image, 5792 x 5792: decoded it takes 100 MB, and every core decodes one at a time. A small file
may claim far more."""


def open_image(file: IO[bytes] | Path) -> Image.Image:
    """An image, whose pixels are not read yet. ValueError for one with no pixels, or more than MOST_PIXELS."""
    if isinstance(file, Path) and not file.is_file() and file.exists():
        raise ValueError("it is not a plain file")
    image = Image.open(file)
    if not 0 < image.width * image.height <= MOST_PIXELS:
        image.close()
        raise ValueError(f"it has {image.width} x {image.height} pixels, where 1 to {MOST_PIXELS:,} are read")
    return image


def view(image: Image.Image, image_size: int, views: Views | None = None, row: int = 0) -> Image.Image:
    """The view of an image in row `row`: a square of image_size pixels a side, resized with bicubic interpolation."""
    box = middle(*image.size) if views is None else views.box(row, *image.size)
    square = image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box)
    if views is not None and views.flipped(row):
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return square


def view_stored(images: npt.NDArray[np.uint8], image_size: int, views: Views | None) -> npt.NDArray[np.uint8]:
    """The views of images in the rows of a batch, as arrays: [B, C, h, w] to [B, C, image_size, image_size]."""
    if images.shape[2:] == (image_size, image_size) and (views is None or views.crop is None):
        flipped = [row for row in range(len(images)) if views is not None and views.flipped(row)]
        if flipped:
            images = images.copy()
            images[flipped] = images[flipped, :, :, ::-1]
        return images
    seen = np.empty((*images.shape[:2], image_size, image_size), np.uint8)
    for row, image in enumerate(images):
        # Pillow's grey images have no axis for the colour.
        whole = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        square = np.asarray(view(whole, image_size, views, row))
        seen[row] = square[None] if len(image) == 1 else square.transpose(2, 0, 1)
    return seen
