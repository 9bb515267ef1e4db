"""Labelled images to score on: which ones of a set are taken, and the names of their classes."""

from dataclasses import dataclass

import numpy as np

from flipscale import randomness
from flipscale.inputs.labelled import check_labels
from flipscale.train.data.pairs import Flags, Images, Integers

SUBSET_STREAM = randomness.key("evaluation", "subset")
"""Which images stand for a set that has more than are wanted: the same for every run."""


@dataclass(frozen=True)
class Labelled:
    """Images [n, 3, S, S] and the class of each [n]."""

    images: Images
    labels: Integers
    classes: tuple[str, ...]
    """The name of each class: of its folder, or as a prompt has it."""
    corrupt: int = 0
    """How many more were chosen and could not be read."""
    shown: Flags | None = None
    """Which classes each image shows [n, classes], where it may show several; `labels` has the first of them."""


def even(labels: Integers, stream: int) -> Integers:
    """All indices in an order whose every beginning is a random subset with classes as even as can be: int64 [n].

    Sorted by each image's random rank in its class, and within a rank at random.
    """
    words = randomness.bits(stream, np.arange(len(labels)), 1)[:, 0]
    order = np.argsort(words)
    rank = np.empty(len(labels), np.int64)
    rank[order] = rank_in_class(labels[order])
    return np.lexsort((words, rank))


def rank_in_class(labels: Integers) -> Integers:
    """How many images of its class come before each image: int64 [n]."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return rank


def subset(labels: Integers, count: int) -> Integers:
    """The indices of at most `count` images, ascending, with classes as even as can be.

    The first ones would not do: files are often sorted by class.
    """
    return np.sort(even(labels, SUBSET_STREAM)[:count])


def check(labels: Integers, classes: tuple[str, ...], where: str) -> None:
    """Raise DataError for a label that no class name belongs to."""
    check_labels(int(labels.min(initial=0)), int(labels.max(initial=0)), len(classes), where)
