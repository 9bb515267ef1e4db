"""The sampling error of the test images: a difference also depends on which images happen to be in the test set.

An interval over seeds says how far other seeds would move a difference on these images. More seeds do not reduce what
other images would change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ImageSampling:
    """The error that the choice of test images adds to a difference between two arms, paired by image and seed."""

    difference: float
    """The mean over seeds and images of the arm's hits minus the baseline's, as a fraction."""
    standard_error: float
    """Standard error of that difference over test sets of the same size, as a fraction."""
    shared: float | None
    """The part of standard_error squared that the variance over seeds contains as well: what varies from image to image
    and from seed to seed. None for one seed, where it cannot be told from the rest."""
    images: int
    seeds: int

    def with_seeds(self, standard_error: float) -> float:
        """The standard error for new seeds and new images, where that of the seeds is `standard_error`.

        Images and seeds are crossed, so the variance is the sum of both less what both contain (Cameron, Gelbach and
        Miller 2011, Robust inference with multiway clustering, eq. 2.3; Owen 2007, The pigeonhole bootstrap).
        """
        both = standard_error**2 + self.standard_error**2 - (self.shared or 0.0)
        return float(np.sqrt(max(both, standard_error**2, self.standard_error**2)))


def image_sampling(arm: Sequence[Bits], baseline: Sequence[Bits]) -> ImageSampling:
    """The sampling error of the test images in the mean difference of paired runs.

    arm, baseline: for each seed which images the run got right, [images]; all of the same images in the same order.

    With one seed it is sqrt((q - d^2) / N), q the share of the N images on which the twins disagree and d the
    difference: the standard error of paired proportions (McNemar 1947, Psychometrika 12). With several it is that of
    the mean over images of each image's mean difference over seeds.
    """
    differences = np.stack(arm).astype(np.int64) - np.stack(baseline).astype(np.int64)
    seeds, images = differences.shape
    of_image = differences.mean(axis=0)
    return ImageSampling(
        difference=float(of_image.mean()),
        standard_error=float(np.sqrt(of_image.var() / images)),
        shared=_shared(differences) if seeds > 1 else None,
        images=images,
        seeds=seeds,
    )


def _shared(differences: npt.NDArray[Any]) -> float:
    """The variance of the mean of the residuals in [seeds, images] beside the effects of seeds and of images."""
    seeds, images = differences.shape
    left = differences - differences.mean(axis=0) - differences.mean(axis=1, keepdims=True) + differences.mean()
    return float((left**2).sum() / ((seeds - 1) * max(images - 1, 1)) / (seeds * images))
