"""The metrics that a labelled set may be judged by beside top-1: FLIP's table 4 (arXiv 2212.00794) has sets of each.

A similarity that is not a number makes the metric NaN. Equal similarities count half in `roc_auc`, and are taken
together in `map11`. scikit-learn takes over a second to import, so it loads where a set asks for these.
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
    from sklearn.metrics import precision_recall_curve

    if not np.isfinite(similarity).all():
        return float("nan")
    of_classes = []
    for column in np.flatnonzero(shown.any(axis=0)):
        # The curve ends with a precision of 1 at a recall of 0, which VOC2007 does not have.
        precision, recall = (part[:-1] for part in precision_recall_curve(shown[:, column], similarity[:, column])[:2])
        of_classes += [precision[recall >= tenths / RECALLS - 1e-12].max() for tenths in range(RECALLS + 1)]
    return float(np.mean(of_classes)) if of_classes else float("nan")


def roc_auc(scores: Floats, positive: Flags) -> float:
    """The area under the ROC curve: how often a positive image [N] has a higher score than a negative one."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores)) if np.isfinite(scores).all() else float("nan")
