"""mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): training images mixed with others of their batch.

This is timm's Mixup for a whole batch, with which MAE and FLIP fine-tune: each row is mixed with the row equally far
from the other end of the global batch; one of the two kinds is drawn, with equal chance; and a box that CutMix cuts
counts by its area within the image. All draws follow from the run's seed and the step alone, so every process mixes
alike.
"""

import math
from dataclasses import dataclass

import numpy as np

from flipscale import randomness
from flipscale.data.pairs import Images
from flipscale.settings import FineTuning

_BETA_TRIES = 64
"""Pairs of numbers that are drawn for one share. With alpha up to 2, all are rejected once in 100,000 times."""


@dataclass(frozen=True)
class Mix:
    """How the images of a step are mixed."""

    share: float
    """Weight of a row's own class in its target, from 0 to 1; the rest is the other row's."""
    box: tuple[int, int, int, int] | None = None
    """Top, bottom, left and right of the box cut out of the other image; None blends whole images."""

    def of(self, images: Images, others: Images) -> Images:
        """The images [b, 3, S, S] with their others mixed in."""
        if self.box is None:
            blend = self.share * images.astype(np.float32) + (1 - self.share) * others
            return np.rint(blend).astype(np.uint8)
        top, bottom, left, right = self.box
        mixed = images.copy()
        mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        return mixed


def mix_of(fine_tuning: FineTuning, seed: int, step: int, image_size: int) -> Mix | None:
    """How the images of a step are mixed; None if they are not."""
    if not (fine_tuning.mixup or fine_tuning.cutmix):
        return None
    key = randomness.key("mix", seed)
    draws = randomness.uniform(key, np.array([step], np.int64), 3 + 2 * _BETA_TRIES)[0].astype(float).tolist()
    which, vertical, horizontal, *pairs = draws
    cuts = bool(fine_tuning.cutmix) and (not fine_tuning.mixup or which < 0.5)
    share = _beta(fine_tuning.cutmix if cuts else fine_tuning.mixup, pairs)
    if not cuts:
        return Mix(share)
    side = int(image_size * math.sqrt(1 - share))
    top, bottom = _within(int(vertical * image_size), side, image_size)
    left, right = _within(int(horizontal * image_size), side, image_size)
    return Mix(1 - (bottom - top) * (right - left) / image_size**2, (top, bottom, left, right))


def _within(middle: int, side: int, size: int) -> tuple[int, int]:
    """Start and end, within an image, of a stretch `side` long about `middle`."""
    return max(0, middle - side // 2), min(size, middle + (side + 1) // 2)


def _beta(alpha: float, draws: list[float]) -> float:
    """A number from the distribution Beta(alpha, alpha), from pairs of uniform ones, by Jöhnk's algorithm (1964)."""
    for first, second in zip(draws[::2], draws[1::2], strict=True):
        x, y = first ** (1 / alpha), second ** (1 / alpha)
        if 0 < x + y <= 1:
            return float(x / (x + y))
    return 0.5
