"""IDX files, the format of MNIST and its kin: grey images [n, height, width] and labels [n], compressed (.gz) or plain.

An IDX file is two zero bytes, the type of a number (8: unsigned byte), how many axes, then their lengths, then the
numbers.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flipscale.data.digest import hashed
from flipscale.data.inspection import Look
from flipscale.data.labelled import (
    ClassifiedSet,
    Labelled,
    check_choice,
    check_labels,
    images_in_memory,
    labelled_items,
    numbered_classes,
    subset,
)
from flipscale.data.pairs import Form, HeldOutItems, Images, Integers, Scoring, located
from flipscale.data.views import view_stored
from flipscale.errors import DamagedFile, DataError, reason_of
from flipscale.plain_files import open_plain
from flipscale.settings.declarations import IdxSet, LabelledIdx

MOST_IDX_BYTES = 2**32
"""The most bytes a file may declare: ImageNet in grey, at 56 pixels."""

IMAGES = 0x0803
LABELS = 0x0801


def check(data: IdxSet | LabelledIdx, look: Look, probe: bool) -> None:
    """Read images and labels, which are one file each."""
    if isinstance(data, IdxSet):
        look.once(_check_set, data, probe)
    else:
        look.once(_check_pair, data)


def _check_set(data: IdxSet, probe: bool) -> None:
    check_choice(tuple(data.classes), data.images)
    check_labels(labelled(data.images, data.labels)[1], len(data.classes), data.labels)
    if probe and data.train_images is not None:
        labels = _train_labels(data)
        check_labels(labelled(data.train_images, labels)[1], len(data.classes), labels)


def _check_pair(data: LabelledIdx) -> None:
    classes = numbered_classes(labelled(data.train_images, data.train_labels)[1], data.train_labels)
    check_labels(labelled(data.test_images, data.test_labels)[1], len(classes), data.test_labels)


def _train_labels(data: IdxSet) -> str:
    if data.train_labels is None:
        raise DataError(f"{data.train_images}: has no train_labels beside it; name the file of its labels.")
    return data.train_labels


def count(data: IdxSet | LabelledIdx, most: int) -> int:
    path = located(data.test_images if isinstance(data, LabelledIdx) else data.images)
    return _shape(path, IMAGES, _read(path, 64)[1])[0]


def content(data: IdxSet | LabelledIdx, probe: bool) -> Any:
    """The bytes of the files, and the classes that a set names."""
    if isinstance(data, LabelledIdx):
        return _bytes(data.test_images, data.test_labels)
    return data.classes, _bytes(data.images, data.labels), probe and _bytes(data.train_images, data.train_labels)


def _bytes(*files: str | None) -> list[Any]:
    return hashed(file_of(located(file)) for file in files if file)


def held_out(data: IdxSet, form: Form, scoring: Scoring) -> HeldOutItems:
    """A subset with even classes."""
    classes = tuple(data.classes)
    examples = None
    scored = read(data.images, data.labels, classes, scoring.images, form.image_size)
    if scoring.probe and data.train_images is not None:
        examples = read(data.train_images, _train_labels(data), classes, scoring.probe, form.image_size)
    return labelled_items(data, scored, form, scoring, data.images, examples)


def classified(data: LabelledIdx, form: Form, *, images: int, samples: int) -> ClassifiedSet:
    """Classes are numbered, from 0 to the largest label of a training image."""
    grey, labels = labelled(data.train_images, data.train_labels)
    classes = numbered_classes(labels, data.train_labels)
    test = read(data.test_images, data.test_labels, classes, images, form.image_size)
    return ClassifiedSet(images_in_memory(grey, labels, form.image_size), test)


def array(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """The array in a file, compressed or not, whichever is there: its name may end in .gz in either case."""
    path, head = _read(path, 64)
    shape = _shape(path, magic, head)
    begins = 4 + 4 * len(shape)
    declared = math.prod(shape)
    # A small .gz may unpack to any length: a byte more than was declared shows that it is wrong.
    _, data = _read(path, begins + declared + 1)
    if len(data) - begins != declared:
        raise DataError(
            f"{path}: declares {' x '.join(map(str, shape))} = {declared} bytes but holds {len(data) - begins}; "
            f"copy it again."
        )
    return np.frombuffer(data, np.uint8, offset=begins).reshape(shape)


def file_of(path: Path) -> Path:
    """The file that exists: the path with .gz, or else without."""
    zipped = path if path.suffix == ".gz" else path.with_name(path.name + ".gz")
    return zipped if zipped.exists() else zipped.with_suffix("")


def _read(path: Path, most: int) -> tuple[Path, bytes]:
    """The path of the file that exists, and the first `most` bytes of its unpacked content."""
    path = file_of(path)
    try:
        os.close(open_plain(path, follow=True))
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            return path, file.read(most)
    except FileNotFoundError:
        raise DataError(f"{path}.gz: there is no such file, and none without .gz; correct its path.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); copy it again.") from error
    except (OSError, DamagedFile) as error:
        reason = reason_of(error).removeprefix(f"{path}: ").rstrip(".")
        raise DataError(f"{path}: cannot be read ({reason}); name an idx file.") from error


def _shape(path: Path, magic: int, data: bytes) -> list[int]:
    begins = int.from_bytes(data[:4], "big")
    axes = magic & 0xFF
    if begins != magic:
        raise DataError(
            f"{path}: begins with {data[:4].hex() or 'nothing'}, an idx file of this kind with {magic:08x}; "
            f"name a file of {'images' if magic == IMAGES else 'labels'}."
        )
    if len(data) < 4 + 4 * axes:
        raise DataError(f"{path}: ends after {len(data)} bytes, within its header of {4 + 4 * axes}; copy it again.")
    shape = [int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    if (shape[0] and not all(shape)) or math.prod(shape) > MOST_IDX_BYTES:
        size = " x ".join(map(str, shape))
        raise DataError(
            f"{path}: declares images of {size} bytes, where 1 to {MOST_IDX_BYTES:,} are read; copy it again."
        )
    return shape


def read(images: str, labels: str, classes: tuple[str, ...], count: int, image_size: int) -> Labelled:
    """At most `count` images with even classes."""
    grey, numbers = labelled(images, labels)
    check_labels(numbers, len(classes), labels)
    chosen = subset(numbers, count)
    return Labelled(pictures(grey[chosen], image_size), numbers[chosen], classes)


def labelled(images: str, labels: str) -> tuple[npt.NDArray[np.uint8], Integers]:
    """All images [n, height, width] and their labels [n]."""
    grey = array(located(images), IMAGES)
    numbers = array(located(labels), LABELS).astype(np.int64)
    if len(grey) != len(numbers):
        raise DataError(
            f"{images}: has {len(grey)} images, but {labels} has {len(numbers)} labels; name two files of one set."
        )
    if not len(grey):
        raise DataError(f"{images}: has no images; name a file that has some.")
    return grey, numbers


def pictures(grey: npt.NDArray[np.uint8], image_size: int) -> Images:
    """The middle squares of [n, height, width], resized: [n, 3, image_size, image_size]."""
    return np.repeat(view_stored(grey[:, None], image_size, None), 3, axis=1)
