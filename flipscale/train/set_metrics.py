"""The metrics that a labelled set may be judged by beside top-1: FLIP's table 4 (arXiv 2212.00794) has sets of each.

They are small, exact, and equal to scikit-learn's, which takes over a second to import and orders ties by place. For
equal similarities each metric gives its expected value over random orders of them, or (`map11`) takes them together. A
similarity that is not a number makes the metric NaN, too.
"""

import numpy as np
import numpy.typing as npt

from flipscale.data.pairs import Flags, Integers

Floats = npt.NDArray[np.float64]

RECALLS = 10
"""VOC2007 reads the precision at recalls of 0, 1/10, ... 10/10."""


def mean_per_class(likely: Floats, labels: Integers) -> float:
    """The mean of the classes' accuracies. Classes without an image are left out.

    likely: how likely each image is a hit [N], see `evaluate.hits`; labels: the class of each [N].
    scikit-learn calls it `balanced_accuracy_score`, for sets that have an image of each class.
    """
    counts = np.bincount(labels)
    sums = np.bincount(labels, weights=likely)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def map11(similarity: Floats, shown: Flags) -> float:
    """VOC2007's mean average precision: of each class the mean, over 11 recalls, of the best precision there or beyond.

    similarity: of each image to each class [N, C]; shown: whether the image shows the class [N, C]. Classes that no
    image shows are left out. Pascal VOC devkit 2007, `VOCevalcls.m`.
    """
    seen = [_precision11(similarity[:, c], shown[:, c]) for c in np.flatnonzero(shown.any(axis=0))]
    return float(np.mean(seen)) if seen else float("nan")


def _precision11(scores: Floats, right: Flags) -> float:
    if not np.isfinite(scores).all():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    shown_so_far = np.cumsum(right[order])
    # A threshold lies below each run of equal scores, not within it.
    last = np.append(np.diff(scores[order]) != 0, True)
    hits, ranks = shown_so_far[last], np.arange(1, len(scores) + 1)[last]
    best = np.maximum.accumulate((hits / ranks)[::-1])[::-1]
    total = int(shown_so_far[-1])
    # In whole numbers: the recall 3 / 10 of 10 images is 0.3 exactly.
    reached = [int(np.argmax(hits * RECALLS >= recall * total)) for recall in range(RECALLS + 1)]
    return float(best[reached].mean())


def roc_auc(scores: Floats, positive: Flags) -> float:
    """How often a positive image [N] has the higher score than a negative one; equal scores count half.

    The area under the ROC curve, by ranks (Mann and Whitney).
    """
    if not np.isfinite(scores).all():
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(positive.sum())
    above = ranks[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(scores) - positives)))
