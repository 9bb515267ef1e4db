"""Labelled images of IDX files, as MNIST's."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from flipscale.inputs.idx import IMAGES, LABELS, check_counts, content
from flipscale.inputs.paths import located
from flipscale.train.data.labelled import Labelled, check, subset
from flipscale.train.data.pairs import Images, Integers
from flipscale.train.data.views import view_stored


def read(images: str, labels: str, classes: tuple[str, ...], count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes."""
    grey, numbers = labelled(images, labels)
    check(numbers, classes, labels)
    chosen = subset(numbers, count)
    return Labelled(pictures(grey[chosen], image_size), numbers[chosen], classes)


def labelled(images: str, labels: str) -> tuple[npt.NDArray[np.uint8], Integers]:
    """All images [n, height, width] and their labels [n]."""
    grey, numbers = array(located(images), IMAGES), array(located(labels), LABELS).astype(np.int64)
    check_counts(images, len(grey), labels, len(numbers))
    return grey, numbers


def array(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """The array in a file, compressed or not, whichever is there: its name may end in .gz in either case."""
    shape, numbers = content(path, magic)
    return np.frombuffer(numbers, np.uint8).reshape(shape)


def pictures(grey: npt.NDArray[np.uint8], image_size: int) -> Images:
    """The middle squares of [n, height, width], resized: [n, 3, image_size, image_size]."""
    return np.repeat(view_stored(grey[:, None], image_size, None), 3, axis=1)
