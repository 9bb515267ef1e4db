"""The scale on which twins are compared: noise is about equal along it, and shares stay within 0 to 1."""

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Array = NDArray[np.float64]

MOST_IMAGES = 100_000
"""Test sets larger than this are not recognized from the values."""

WIDEST = 0.5
"""An interval of a fraction that is wider than 50 points says nothing."""

MOSTLY = 0.9
"""At least this part of the shares has no half image in it."""


class Transform(Enum):
    """The transform of a score before differences are taken."""

    LOGIT = auto()
    """For a fraction."""
    LOG = auto()
    """For a positive loss."""
    PLAIN = auto()
    """Nothing: a column of a table that may be negative."""


@dataclass(frozen=True)
class ScoreScale:
    """A scale, with the data to convert in both directions."""

    transform: Transform
    images: int | None = None
    """Test images of a fraction. With them 0 and 1 are half an image away from the ends."""

    def of(self, scores: "Array | list[float]") -> Array:
        """Scores on the scale. A fraction p of N images becomes log((pN + 1/2) / (N - pN + 1/2))."""
        values = np.asarray(scores, dtype=np.float64)
        if self.transform is Transform.LOG:
            return np.log(values)
        if self.transform is Transform.PLAIN:
            return values
        images = self.images or MOST_IMAGES
        hits: Array = np.log((values * images + 0.5) / (images - values * images + 0.5))
        return hits

    def score(self, places: Any) -> Any:
        """The score, or the scores, at places of the scale."""
        if self.transform is Transform.PLAIN:
            return places
        if self.transform is Transform.LOG:
            return np.exp(places)
        images = self.images or MOST_IMAGES
        return np.clip((expit(places) * (images + 1) - 0.5) / images, 0.0, 1.0)

    def difference(self, start: float, step: Any) -> Any:
        """The change in the score's own unit that a step on the scale, or several, makes from `start` on."""
        if self.transform is Transform.PLAIN:
            return step
        back = np.exp if self.transform is Transform.LOG else expit
        return back(start + step) - back(start)

    def step(self, start: float, difference: float) -> float:
        """The step on the scale that makes this difference from `start` on; infinite if no score is that far."""
        if self.transform is Transform.PLAIN:
            return difference
        # As in `difference`: half an image matters at 0 and 1 only, where a level has no step.
        end = float((np.exp if self.transform is Transform.LOG else expit)(start)) + difference
        top = math.inf if self.transform is Transform.LOG else 1.0
        if not 0 < end < top:
            return math.copysign(math.inf, difference)
        return math.log(end) - start if self.transform is Transform.LOG else float(logit(end)) - start

    def slope(self, start: float) -> float:
        """The score's own unit per unit of the scale, at `start` there."""
        if self.transform is Transform.PLAIN:
            return 1.0
        if self.transform is Transform.LOG:
            return float(np.exp(start))
        share = float(expit(start))
        return share * (1 - share)


def scale_of(scores: "Array | list[float]", *, fraction: bool, lower_is_better: bool) -> ScoreScale:
    """The scale of a column: the logit of a fraction, the logarithm of a positive loss, else the column as it is."""
    values = np.asarray(scores, dtype=np.float64)
    values = values[np.isfinite(values)]
    if fraction:
        return ScoreScale(Transform.LOGIT, images_of(values))
    if lower_is_better and values.size and (values > 0).all():
        return ScoreScale(Transform.LOG)
    return ScoreScale(Transform.PLAIN)


def images_of(shares: Array) -> int | None:
    """The smallest number of test images that gives these shares; None if it is above MOST_IMAGES.

    A tie of two is half a hit, and rare: some shares may have half an image, where MOSTLY others have whole ones.
    It matters at 0 and 1 only, where it says how far beyond them the truth may be.
    """
    shares = np.unique(shares)
    numbers = np.arange(1, MOST_IMAGES + 1)
    whole = np.zeros(len(numbers), dtype=np.int64)
    for share in shares:
        hits = share * numbers
        may_be = np.abs(2 * hits - np.round(2 * hits)) < 1e-6
        whole += np.abs(hits - np.round(hits)) < 1e-6
        numbers, whole = numbers[may_be], whole[may_be]
    possible = numbers[whole >= MOSTLY * len(shares)]
    return int(possible[0]) if possible.size else None
