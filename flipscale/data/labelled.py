"""Labelled images, whatever their format: names of classes, which images of a set are scored, and what opens them.

A format reads its files into `Labelled`, which `labelled_items` makes a set to score on; `images_in_memory` and
`images_in_files` give images to fine-tune on.
"""

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from flipscale import randomness
from flipscale.data.decode import CORRUPT_COUNT, CORRUPT_SHARE
from flipscale.data.inspection import Look
from flipscale.data.pairs import Data, Flags, Form, HeldOutItems, Images, Integers, Scoring, located, prompt_tokens
from flipscale.data.shuffle import Shuffle
from flipscale.data.views import Views, open_image, view, view_stored
from flipscale.errors import DamagedFile, DataError, reason_of
from flipscale.plain_files import read_text
from flipscale.settings.declarations import LabelledSet
from flipscale.study.named_sets import unsuited

MOST_NAMES_BYTES = 2**26
"""The most bytes of a file of class names."""

IMAGENET_CLASSES = 1000
"""How many classes `classes: imagenet` stands for, with open_clip's names."""

PLAIN_TEMPLATES = ["a photo of a {}"]
"""The prompts of a labelled set for which none are given."""

_NO_WORDS = np.empty(0, np.int64)
"""The vocabulary of data in memory: a CPU then makes batches without threads."""


# Names of classes


def names_in_order(classes: str | Sequence[str], where: str) -> tuple[str, ...]:
    """The class names of a declaration: a list, or a text file with one a line."""
    if not isinstance(classes, str):
        return tuple(classes)
    path = located(classes)
    try:
        text = read_text(path, most=MOST_NAMES_BYTES, follow=True)
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    except (OSError, DamagedFile) as error:
        raise DataError(
            f"{path}: cannot be read as the class names of {where} ({reason_of(error)}). "
            f"Write a text file with one name a line, or a list of names, or imagenet."
        ) from error
    if not names:
        raise DataError(f"{path}: has no class name; write one a line, in the order of the classes of {where}.")
    return names


def count_class_file(classes: str | Sequence[str] | None, look: Look) -> None:
    """Count the file that the classes of a declaration are read from, if they are."""
    if isinstance(classes, str) and classes != "imagenet":
        look.count("class_files", classes)


def numbered_classes(labels: Integers, where: str) -> tuple[str, ...]:
    """The names of classes that have numbers only: 0 to the largest label.

    Raises DataError for a label below 0, and for a single class.
    """
    classes = tuple(map(str, range(int(labels.max(initial=0)) + 1)))
    check_labels(labels, len(classes), where)
    check_choice(classes, where)
    return classes


def check_labels(labels: Sequence[int] | Integers, classes: int, where: str) -> None:
    """Raise DataError unless all labels have a class name."""
    low = int(np.min(labels, initial=0))
    high = int(np.max(labels, initial=0))
    if low < 0 or high >= classes:
        raise DataError(
            f"{where}: has a label {low if low < 0 else high}, but classes names {classes}, for the labels 0 to "
            f"{classes - 1}; give a name for every label from 0 on."
        )


def check_choice(classes: tuple[str, ...], where: str, metric: str = "top1") -> None:
    """Raise DataError for a set with a single class, or with a number of classes that does not suit its metric."""
    if wrong := unsuited(metric, len(classes)):
        raise DataError(f"{where}: {wrong}.")
    if len(classes) < 2:
        raise DataError(
            f"{where}: has a single class, {classes[0]!r}, so any model would be right; name a set of two classes or "
            f"more."
        )


# Which images are scored


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


def labelled_items(
    data: LabelledSet,
    scored: Labelled,
    form: Form,
    scoring: Scoring,
    where: str,
    examples: Labelled | None = None,
) -> HeldOutItems:
    """Labelled images as items to score on; the linear probe learns from `examples`.

    Raises DataError, which begins with `where`, for classes or images that do not suit the metric of the set.
    """
    check_choice(scored.classes, where, data.metric)
    if data.metric == "roc_auc" and len(set(scored.labels.tolist())) < 2:
        raise DataError(
            f"{where}: roc_auc needs images of both classes, but those to score are all of one; add some of the other."
        )
    return HeldOutItems(
        pairs=None,
        retrieval=False,
        labelled=(scored.images, scored.labels),
        classes=scored.classes,
        prompts=prompt_tokens(scored.classes, scoring.templates or PLAIN_TEMPLATES, form.tokenize),
        probe=None if examples is None else (examples.images, examples.labels),
        corrupt=scored.corrupt + (examples.corrupt if examples else 0),
        shown=scored.shown,
        metric=data.metric,
    )


# Images to fine-tune on


@dataclass(frozen=True)
class ClassifiedSet:
    """A labelled set, opened."""

    training: Data
    """Its batches have the number of the class, int64 [B], in place of tokens."""
    test: Labelled
    """The items to score on, and the names of the classes."""


def images_in_memory(grey: npt.NDArray[np.uint8], labels: Integers, image_size: int) -> Data:
    """Grey images [n, height, width], each seen in three channels."""

    def batch(indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        seen = view_stored(grey[indices][:, None], image_size, views)
        return np.repeat(seen, 3, axis=1), labels[indices]

    return Data(size=len(labels), batch=batch, order=Shuffle([len(labels)]), vocabulary=_NO_WORDS)


def images_in_files(content: Callable[[int], Path | bytes], labels: Integers, image_size: int, where: str) -> Data:
    """Image files that are decoded as they are needed. The next readable one replaces one that cannot be decoded."""
    size = len(labels)
    bad = set[int]()
    lock = threading.Lock()

    def note(number: int, reason: str) -> None:
        with lock:
            bad.add(number)
            if len(bad) > max(CORRUPT_COUNT, CORRUPT_SHARE * size):
                raise DataError(
                    f"{where}: {len(bad)} of {size} training images cannot be read, the last of them number {number} "
                    f"({reason}). Write these files again, or remove them."
                )

    def read(number: int) -> tuple[Image.Image, int]:
        """An image, and which one it is: that of this number, or of the next one that can be decoded."""
        for candidate in ((number + further) % size for further in range(size)):
            if candidate in bad:
                continue
            try:
                file = content(candidate)
                with open_image(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
                    return image.convert("RGB"), candidate
            except MemoryError:
                raise
            except Exception as error:  # On damaged bytes decoders raise anything: OSError, SyntaxError, struct.error.
                note(candidate, reason_of(error))
        raise DataError(f"{where}: none of {size} training images can be read; write these files again.")

    def batch(indices: Integers, views: Views | None = None) -> tuple[Images, Integers]:
        images = np.empty((len(indices), 3, image_size, image_size), np.uint8)
        seen = np.empty(len(indices), np.int64)
        for row, number in enumerate(indices.tolist()):
            image, seen[row] = read(number)
            images[row] = np.asarray(view(image, image_size, views, row)).transpose(2, 0, 1)
        return images, labels[seen]

    return Data(size=size, batch=batch, order=Shuffle([size]), corrupt=lambda: len(bad))
